"""Rule-trace events gathered to runs: what one packet met in one namespace, in the kernel's order.

The kernel sends an event for every rule that matched, every return and every
policy, and names the packet by an id that is free again once the packet is gone.
Only the first event of each base chain carries headers, those of the moment: behind
a DNAT the next base chain shows the new destination.  Events come in the order in
which the packet met the rules, so nothing has to be sorted.  (Linux nft_trace.c.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from hoplab.hops.evidence import BaseChain, RuleId, RuleText, TraceEvent
from hoplab.hops.identity import header_identity
from hoplab.hops.packet import Packet, read_headers
from hoplab.hops.story import RuleHit

OBSERVER_TABLE = "hoplab_watch"
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


class TraceRun:
    """The events of one packet's way through one namespace; `packets` are its headers, base chain by base chain."""

    __slots__ = ("begun", "events", "key", "node", "own", "packets", "time_ns")

    def __init__(self, node: str, key: Hashable, time_ns: int) -> None:
        self.node, self.key, self.time_ns = node, key, time_ns
        self.packets: list[Packet] = []
        self.events: list[tuple[TraceEvent, TraceEvent]] = []
        """(event, the base chain's first event)."""
        self.begun: set[tuple[str, str, str, int, str]] = set()
        self.own = True
        """Whether it is about the joined packet itself; False for the tunnel that carries it."""

    @property
    def dropped(self) -> bool:
        """Whether a rule or a policy ended the packet."""
        return any(event.verdict.lower() == "drop" for event, _base in self.events)


def trace_runs(traces: Iterable[TraceEvent]) -> list[TraceRun]:
    """All runs, in the order in which they began.  Events whose headers were never seen belong to no run."""
    current: dict[tuple[str, int], tuple[TraceRun, TraceEvent]] = {}
    parsed: dict[tuple[bytes, bytes], tuple[Packet, Hashable] | None] = {}
    runs: list[TraceRun] = []
    for event in traces:
        place = (event.node, event.trace_id)
        found = current.get(place)
        if event.network_header:
            headers = (event.network_header, event.transport_header)
            if headers not in parsed:
                packet = read_headers(*headers)
                parsed[headers] = (packet, header_identity(packet)) if packet else None
            read = parsed[headers]
            if read is None:
                current.pop(place, None)
                continue
            packet, key = read
            start = (event.family, event.table, event.chain, event.handle, event.kind)
            if found is None or found[0].key != key or start in found[0].begun:
                run = TraceRun(event.node, key, event.time_ns)
                runs.append(run)
            else:
                run = found[0]
            run.begun.add(start)
            run.packets.append(packet)
            found = current[place] = (run, event)
        if found is not None:
            found[0].events.append((event, found[1]))
    return runs


class Resolver:
    """Handles to rules' text, chains to hooks."""

    def __init__(
        self, rules: Mapping[RuleId, RuleText], chains: Sequence[BaseChain] = (), observer_table: str = OBSERVER_TABLE
    ) -> None:
        self._rules = rules
        self._hooks = {(c.node, c.family, c.table, c.chain): c.hook for c in chains}
        self._observer_table = observer_table
        self._made: dict[tuple[str, str, str, str, int, str, str, str], RuleHit] = {}

    def hits(self, run: TraceRun) -> Iterable[RuleHit]:
        """The rules and policies of a run, in order, without the observer's own."""
        node, made = run.node, self._made
        for event, base in run.events:
            if event.table == self._observer_table:
                continue
            key = (node, event.family, event.table, event.chain, event.handle, event.kind, event.verdict, base.chain)
            hit = made.get(key)
            if hit is None:
                hit = made[key] = self._hit(event, base)
            yield hit

    def _hit(self, event: TraceEvent, base: TraceEvent) -> RuleHit:
        text = comment = ""
        if event.kind == "policy":
            text = "policy"
        elif not event.handle:
            # No rule of the chain decided: the kernel tells its end without naming a rule.
            text = "end of chain"
        else:
            rule = self._rules.get(RuleId(event.node, event.family, event.table, event.chain, event.handle))
            # A rule that was gone before it could be listed is still named.
            text, comment = (rule.text, rule.comment) if rule else (f"handle {event.handle}", "")
        hook = self._hooks.get((base.node, base.family, base.table, base.chain)) or _hook_by_name(base.chain)
        verdict = event.verdict or ("return" if event.kind == "return" else "continue")
        return RuleHit(event.table, event.chain, text, verdict, hook, comment, event.family)


def _hook_by_name(chain: str) -> str:
    """iptables names its base chains after their hooks."""
    name = chain.lower()
    return name if name in HOOKS else ""
