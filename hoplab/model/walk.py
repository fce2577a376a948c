"""Walks one packet through one namespace: hooks in the kernel's order, with conntrack, nat and routing between them.

From outside: prerouting, routing, then input or forward and postrouting.  Made here: routing, output, postrouting;
and when it stays here, prerouting and input by `lo`, where its connection's nat is already decided.  At each hook
base chains run by priority; conntrack sits at -200, and all nat chains together at -100 (destination) or 100
(source), asked only for new connections, until one of them decides.

Source: kernel net/netfilter/nf_nat_core.c (nf_nat_inet_fn), nf_tables_core.c (nft_do_chain), net/ipv4/ip_input.c,
ip_output.c; nft(8), "Address families".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Literal

from hoplab.model import routing
from hoplab.model.packet import Host, Packet
from hoplab.model.prediction import Prediction
from hoplab.model.rules import ACCEPT, Chain, Hook, Rule, Ruleset, RulesetError, Table, Verdict
from hoplab.model.state import CT_STATES, State, Step, Unforeseeable, address_number

CONNTRACK = -200
NAT_DESTINATION, NAT_SOURCE = -100, 100
DEEPEST = 16
"""Jumps and gotos below a base chain that the kernel refuses (NFT_JUMP_STACK_SIZE)."""

Stage = Callable[[State], Iterable[State]]
Fate = tuple[State, Verdict]


def outcomes(ruleset: Ruleset, packet: Packet, host: Host) -> tuple[Prediction, ...]:
    """Every way that the packet can take through the namespace, each with its probability; they sum to exactly 1.

    Raises RulesetError when the rules can't be loaded (a loop, a missing chain), Unforeseeable when a rule asks for
    what nobody can know, ValueError for a packet that is none.
    """
    return tuple(_Walk(ruleset, host, packet).all())


class _Walk:
    """One packet's walk through one namespace."""

    def __init__(self, ruleset: Ruleset, host: Host, packet: Packet) -> None:
        self._ruleset, self._host, self._packet = ruleset, host, packet
        self._ends: list[Prediction] = []

    def all(self) -> list[Prediction]:
        """Every way that it can take."""
        state = self._packet.state(self._host)
        if self._packet.in_interface:
            self._incoming(state)
        else:
            self._outgoing(state)
        return self._ends

    def _incoming(self, state: State) -> None:
        for after in self._hook("prerouting", state):
            decision = routing.incoming(after)
            if decision.kind == "local":
                self._deliver(after)
            elif decision.kind == "forward":
                sent = after.but(out_interface=decision.interface, next_hop=decision.next_hop)
                for forwarded in self._hook("forward", sent):
                    self._leave(forwarded)
            else:
                self._undeliverable(after, decision)

    def _outgoing(self, state: State) -> None:
        decision = routing.outgoing(state)
        if decision.kind not in ("local", "forward"):
            self._undeliverable(state, decision)
            return
        sent = state.but(out_interface=decision.interface, next_hop=decision.next_hop)
        for after in self._hook("output", sent):
            if (after.mark, after.dst) != (state.mark, state.dst):
                decision = routing.outgoing(after)
                if decision.kind not in ("local", "forward"):
                    self._undeliverable(after, decision)
                    continue
                after = after.but(out_interface=decision.interface, next_hop=decision.next_hop)
            self._leave(after)

    def _leave(self, state: State) -> None:
        for after in self._hook("postrouting", state):
            if after.out_interface != "lo":
                self._end(after, "passed")
                continue
            looped = after.but(in_interface="lo", out_interface="", next_hop="")
            for arrived in self._hook("prerouting", looped):
                self._deliver(arrived)

    def _deliver(self, state: State) -> None:
        for after in self._hook("input", state):
            self._end(after, "delivered")

    def _undeliverable(self, state: State, decision: routing.Decision) -> None:
        rejected = decision.kind in ("no route", "prohibited") and bool(state.in_interface)
        self._end(state, "rejected" if rejected else "dropped", decision.reason)

    def _hook(self, hook: Hook, state: State) -> list[State]:
        """The branches that pass the hook; the others end here."""
        passing = [state.but(hook=hook)]
        for _, stage in self._stages(hook, state.version):
            passing = [after for each in passing for after in stage(each)]
        return passing

    def _stages(self, hook: Hook, version: int) -> list[tuple[int, Stage]]:
        chains = self._ruleset.base_chains(hook, version)
        stages: list[tuple[int, Stage]] = [
            (chain.priority, self._filter(table, chain)) for table, chain in chains if chain.type != "nat"
        ]
        nat = [(table, chain) for table, chain in chains if chain.type == "nat"]
        side: Literal["destination", "source"] = "destination" if hook in ("prerouting", "output") else "source"
        if hook != "forward":
            at = NAT_DESTINATION if side == "destination" else NAT_SOURCE
            _insert(stages, at, self._nat(side, nat))
        if hook in ("prerouting", "output"):
            _insert(stages, CONNTRACK, self._conntrack)
        return stages

    def _conntrack(self, state: State) -> Iterable[State]:
        if state.tracked or state.ct_state == CT_STATES["untracked"]:
            return (state,)
        packet = self._packet
        return (
            state.but(
                ct_state=packet.ct_bit, tracked=packet.ct_state not in ("invalid", "untracked"), original_src=state.src,
                original_dst=state.dst, original_sport=state.sport, original_dport=state.dport,
            ),
        )  # fmt: skip

    def _filter(self, table: Table, chain: Chain) -> Stage:
        def stage(state: State) -> Iterator[State]:
            for after, verdict in self._base(table, chain, state):
                if verdict.kind == "accept":
                    yield after
                else:
                    self._end(after, "dropped" if verdict.kind == "drop" else "rejected", _refusal(after, verdict))

        return stage

    def _nat(self, side: Literal["destination", "source"], chains: list[tuple[Table, Chain]]) -> Stage:
        def stage(state: State) -> Iterable[State]:
            if not state.tracked:
                return (state,)
            if state.ct_state != CT_STATES["new"]:
                return (_translated(state, side, self._packet),)
            undecided, decided = [state], []
            for table, chain in chains:
                asked, undecided = undecided, []
                for each in asked:
                    if _bound(each, side):
                        decided.append(each)
                    else:
                        undecided += self._filter(table, chain)(each)
            bound = {"destination_bound": True} if side == "destination" else {"source_bound": True}
            return [each.but(**bound) for each in (*decided, *undecided)]

        return stage

    def _base(self, table: Table, chain: Chain, state: State) -> Iterator[Fate]:
        state = state.but(table=table)
        for after, verdict in self._run(table, chain, state, (chain.name,)):
            if verdict.kind == "return":
                shown = "policy", f"policy {chain.policy}"
                after = after.met(Step(after.hook, table.family, table.name, chain.name, *shown))
                verdict = ACCEPT if chain.policy == "accept" else Verdict("drop", "policy drop")
            yield after, verdict

    def _run(self, table: Table, chain: Chain, state: State, way: tuple[str, ...]) -> Iterator[Fate]:
        """All fates within the chain: a final verdict, or `return` when its end was reached."""
        pending = [state]
        for rule in chain.rules:
            tests, still = rule.tests, []
            for each in pending:
                for test in tests:
                    if not _holds(test, each, rule):
                        still.append(each)
                        break
                else:
                    yield from self._fire(table, chain, rule, each, way, still)
            if not still:
                return
            pending = still
        for each in pending:
            yield each, RETURN_BY_END

    def _fire(
        self, table: Table, chain: Chain, rule: Rule, state: State, way: tuple[str, ...], still: list[State]
    ) -> Iterator[Fate]:
        """A rule whose tests hold: final fates are given, what goes on with the next rule is put in `still`."""
        for after, verdict in _fired(rule, state):
            if verdict.kind == "break":
                still.append(after)
                continue
            after = after.met(Step(after.hook, table.family, table.name, chain.name, rule.text, verdict.label))
            if verdict.kind == "next":
                still.append(after)
            elif verdict.kind in ("jump", "goto"):
                for inner, fate in self._run(table, *self._entered(table, rule, verdict, after, way)):
                    if fate.kind == "return" and verdict.kind == "jump":
                        still.append(inner)
                    else:
                        yield inner, fate
            else:
                yield after, verdict

    def _entered(
        self, table: Table, rule: Rule, verdict: Verdict, state: State, way: tuple[str, ...]
    ) -> tuple[Chain, State, tuple[str, ...]]:
        target = table.chains.get(verdict.chain)
        if target is None:
            raise RulesetError(
                f"line {rule.line}: table {table.name} has no chain {verdict.chain!r} to {verdict.kind} to"
            )
        if target.name in way:
            loop = " -> ".join((*way, target.name))
            raise RulesetError(f"line {rule.line}: the chains of table {table.name} go round in a loop: {loop}")
        if len(way) >= DEEPEST:
            raise RulesetError(
                f"line {rule.line}: jumps go deeper than the kernel takes ({DEEPEST}): {' -> '.join(way)}"
            )
        return target, state, (*way, target.name)

    def _end(self, state: State, end: Literal["passed", "delivered", "rejected", "dropped"], reason: str = "") -> None:
        self._ends.append(Prediction.of(state, end, reason))


RETURN_BY_END = Verdict("return")


def _insert(stages: list[tuple[int, Stage]], priority: int, stage: Stage) -> None:
    """Put a stage of the kernel's own behind chains of smaller priority, before those of the same."""
    at = sum(1 for other, _ in stages if other < priority)
    stages.insert(at, (priority, stage))


def _holds(test: Callable[[State], bool], state: State, rule: Rule) -> bool:
    try:
        return test(state)
    except Unforeseeable as error:
        raise Unforeseeable(f"line {rule.line}: {error}; the rule is: {rule.text}") from None


def _fired(rule: Rule, state: State) -> Iterator[Fate]:
    try:
        yield from rule.fire(state)
    except Unforeseeable as error:
        raise Unforeseeable(f"line {rule.line}: {error}; the rule is: {rule.text}") from None


def _bound(state: State, side: str) -> bool:
    return state.destination_bound if side == "destination" else state.source_bound


def _refusal(state: State, verdict: Verdict) -> str:
    step = state.trail.step if state.trail else None
    return f"{step.table} {step.chain}: {verdict.label}" if step else verdict.label


def _translated(state: State, side: str, packet: Packet) -> State:
    """A packet of a known connection is rewritten as its first one was, without any rule."""
    known = packet.translation
    if side == "destination" and known.dst:
        dst = address_number(known.dst)[1]
        return state.but(dst=dst, dport=known.dport or state.dport, dnat=True, destination_bound=True)
    if side == "source" and known.src:
        src = address_number(known.src)[1]
        return state.but(src=src, sport=known.sport or state.sport, snat=True, source_bound=True)
    return state


def merged(predictions: Iterable[Prediction]) -> tuple[Prediction, ...]:
    """Equal outcomes as one, whatever rules led there: their probabilities added, the most probable way's path kept."""
    ordered = sorted(predictions, key=lambda each: (each.summary_key, -each.probability))
    found = []
    for _, same in groupby(ordered, key=lambda each: each.summary_key):
        group = list(same)
        found.append(group[0].with_probability(sum(each.probability for each in group), group))
    return tuple(sorted(found, key=lambda each: -each.probability))
