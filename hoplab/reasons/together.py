"""Causes that no single flow shows: a choice that is uneven over many flows, a balancer that does not heed health.

What is held against each other was all seen: which rule chose for each flow, what the
chain's rules say as the kernel holds them, what a node answered the health check, and
where the balancer's rule sends to.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hoplab.hops.chance import chance
from hoplab.hops.decisive import Explain, decides, explain_nothing
from hoplab.hops.evidence import RuleId, RuleText
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.hops.words import endpoint
from hoplab.reasons.facts import Facts, HealthFact
from hoplab.reasons.questions import whole

FEWEST = 20
"""Choices that are needed before anything is said of them."""
UNLIKELY = 1e-4
"""Probability of counts as uneven as these, below which they are no chance."""

_SERVICE = re.compile(r"^(?:KUBE-(?:SVC|SVL|XLB)-|(?:service|local)-[0-9A-Z]{8}-)")
_ENDPOINT = re.compile(r"\b(KUBE-SEP-\w+|endpoint-[^\s,}]+)")
_REMEMBERED = re.compile(r"--rcheck|@affinity")


@dataclass(frozen=True, slots=True)
class Many:
    """Flows that were sent together, and what is known beside them."""

    flows: Sequence[Flow]
    rules: Mapping[RuleId, RuleText] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    explain: Explain = explain_nothing


def reasons_together(many: Many) -> tuple[Reason, ...]:
    """What is wrong with these flows as a whole; () for nothing."""
    return (*_uneven(many), *_health(many))


@dataclass(frozen=True, slots=True)
class _Choice:
    node: str
    family: str
    table: str
    chain: str
    """The Service's chain."""
    endpoint: str
    """The endpoint's chain."""


def _choices(flows: Iterable[Flow]) -> Iterator[tuple[_Choice, Hop]]:
    flows = tuple(flows)
    # A proxy's connection that failed can't be told to be of one flow: without it, what is left is no fair sample.
    for flow in whole(flows) if all(flow.legs for flow in flows) else flows:
        for hop in flow.forward:
            for hit in hop.rules:
                chosen = _ENDPOINT.search(hit.verdict)
                if chosen and _SERVICE.match(hit.chain) and not _REMEMBERED.search(hit.rule):
                    yield _Choice(hop.node, hit.family, hit.table, hit.chain, chosen[1]), hop


def _uneven(many: Many) -> Iterator[Reason]:
    """Endpoints of one Service that one node chose with shares that are not equal."""
    by_chain: dict[tuple[str, str, str, str], Counter[str]] = {}
    last: dict[tuple[str, str, str, str], Hop] = {}
    for choice, hop in _choices(many.flows):
        key = (choice.node, choice.family, choice.table, choice.chain)
        by_chain.setdefault(key, Counter())[choice.endpoint] += 1
        last[key] = hop
    for (node, family, table, chain), counts in by_chain.items():
        label, known = _endpoints(many, node, family, table, chain, counts)
        total = counts.total()
        shares = [counts[one] for one in known]
        probability = chance(shares)
        loaded = [one for rule in _rules_of(many, node, family, table, chain) for one in _ENDPOINT.findall(rule.text)]
        never = [one for one in known if not counts[one]]
        left_out = [one for one in never if loaded and one not in loaded]
        if len(known) < 2 or ((total < FEWEST or probability > UNLIKELY) and not left_out):
            continue
        told = ", ".join(f"{_name(many, one)} {counts[one]}" for one in known)
        names = " or ".join(_name(many, one) for one in left_out or never)
        why = f"; no rule of it leads to {names}" if left_out else f"; no choice ever led to {names}" if never else ""
        rules = [f"rule in {node}: {rule.text}" for rule in _rules_of(many, node, family, table, chain)]
        hop = last[node, family, table, chain]
        yield Reason(
            "uneven-choice",
            node,
            f"{chain} of {node} did not choose evenly among {len(known)} endpoints ({told} of {total}){why}",
            label or chain,
            f"{node}, {total} choices",
            hop.in_interface or "",
            hop.frames[-1] if hop.frames else 0,
            (f"counted: {told}", f"by chance with a probability of {probability:.1e}", *rules),
            f"On {node}: of n endpoints the rules of {chain} must have the probabilities 1/n, 1/(n-1), ..., 1/2,"
            " and the last one none; each endpoint needs one.",
        )


def _endpoints(
    many: Many, node: str, family: str, table: str, chain: str, counts: Counter[str]
) -> tuple[str, list[str]]:
    """(the Service, chains of the endpoints that the chain has to choose from)."""
    loaded = [one for rule in _rules_of(many, node, family, table, chain) for one in _ENDPOINT.findall(rule.text)]
    label = next((words for name in (chain, *counts) if (words := _service(many, name))), "")
    of_service = [
        rule.id.chain
        for rule in many.rules.values()
        if (rule.id.node, rule.id.family, rule.id.table) == (node, family, table)
        and _ENDPOINT.fullmatch(rule.id.chain)
        and label
        and _service(many, rule.id.chain) == label
    ]
    # A chain for the node's own endpoints has to leave others out.
    every = of_service if chain.startswith(("KUBE-SVC-", "service-")) else []
    return label, list(dict.fromkeys((*loaded, *counts, *every)))


def _service(many: Many, chain: str) -> str:
    """The Service that a chain works for."""
    words = many.explain(RuleHit("nat", chain, "", "", "", ""))
    return words.rpartition(" of ")[2] if words else ""


def _name(many: Many, chain: str) -> str:
    words = many.explain(RuleHit("nat", chain, "", "", "", ""))
    return words.removeprefix("endpoint ").partition(" of ")[0] or chain


def _rules_of(many: Many, node: str, family: str, table: str, chain: str) -> list[RuleText]:
    wanted = (node, family, table, chain)
    found = [r for r in many.rules.values() if (r.id.node, r.id.family, r.id.table, r.id.chain) == wanted]
    return sorted(found, key=lambda rule: rule.id.handle)


def _health(many: Many) -> Iterator[Reason]:
    """A balancer whose candidates are not the nodes that answer its health check."""
    facts = many.facts
    for hop, hit, after in _handed(many):
        told = many.explain(hit) or hit.comment.partition(": ")[0]
        mine = [one for one in facts.health if _is_for(one, told)]
        sick = next((one for one in mine if not one.healthy and one.node == after), None)
        left_out = [one for one in mine if one.healthy and not _names(hit, one.address)]
        if sick is not None:
            words = f"{hop.node} hands flows to {after}, which fails its health check"
        elif left_out and "map {" in hit.rule:
            names = " and ".join(dict.fromkeys(one.node for one in left_out))
            words = f"{hop.node} hands no flow to {names}, which passes its health check"
        else:
            continue
        yield Reason(
            "health-check",
            hop.node,
            words,
            told or hit.chain,
            f"{hop.node}, {hop.in_interface} (frame {hop.frames[-1] if hop.frames else 0})",
            hop.in_interface or "",
            hop.frames[-1] if hop.frames else 0,
            (
                *(f"health check: {one.node} at {endpoint(one.address, one.port)}: {one.detail}" for one in mine),
                f"rule trace in {hop.node}: {hit.rule}",
            ),
            f"On {hop.node}: are the balancer's candidates those that answer? Ask a node yourself:"
            f" `curl -i http://NODE:{mine[0].port}/healthz`.",
        )
        return


def _names(hit: RuleHit, address: str) -> bool:
    """Whether a balancer's rule has a node among its candidates: by its address, or by the mark that stands for it."""
    ip = ipaddress.ip_address(address)
    # A node is asked at its first address alone; of a rule of the other family, nothing can be said.
    if ip.version == 6 or hit.family == "ip6":
        return True
    return address in re.split(r"[^0-9.]+", hit.rule) or f"{int(ip):#010x}" in hit.rule


def _handed(many: Many) -> Iterator[tuple[Hop, RuleHit, str]]:
    """(the balancer's hop, its rule, the node that the flow was handed to)."""
    nodes = {one.address: one.node for one in many.facts.health}
    for flow in many.flows:
        for at, hop in enumerate(flow.forward):
            if many.facts.roles.get(hop.node) != "balancer":
                continue
            hit = next((hit for hit in hop.rules if decides(hit) == "DNAT" or "mark set" in hit.rule), None)
            # A dead node is seen by nobody: then the address tells.
            following = flow.forward[at + 1].node if at + 1 < len(flow.forward) else ""
            if hit is not None:
                yield hop, hit, nodes.get(hop.after.dst) or following


def _is_for(fact: HealthFact, label: str) -> bool:
    """Whether a node was asked for this Service (`label`: namespace/name, and its port's name)."""
    return fact.service == label.partition(":")[0]
