"""What was expected of a flow, held against the probes that were sent for it (pure).

One check for each thing that the file asks: outcome, endpoints, masquerade, hops.  All
of a flow's probes have to agree with it; where the balancer or kube-proxy choose among
several, one probe that goes exactly the expected way proves that way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import dropwhile, takewhile

from hoplab.checks import spread
from hoplab.checks.spec import FlowSpec
from hoplab.hops import verdict
from hoplab.hops.findings import Check, absent, is_masquerade, lost, receiver, ways, without_rule
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.hops.words import endpoint, rule_words

SERVICE_CHAINS = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-", "KUBE-SEP-")
"""Chains of single Services and endpoints in iptables mode (kube-proxy, pkg/proxy/iptables/proxier.go)."""
NFT_TABLE = "kube-proxy"
NFT_CHAINS = re.compile(r"(service|external|firewall|endpoint)-[A-Z2-7]{8}-")
"""The same in nftables mode, kind and hash (pkg/proxy/nftables/proxier.go)."""


def judge(
    spec: FlowSpec,
    flows: Sequence[Flow],
    *,
    nodes: Collection[str],
    hops: Sequence[str],
    choice: bool,
    sample: int = 0,
) -> list[Check]:
    """The checks of one flow from the flows of its probes, the full exchange first.

    `nodes`: names of the cluster's nodes.  `hops`: the expected way by namespaces' names.
    `choice`: somebody may choose among several ways, so one probe that takes it is enough.
    `sample`: the spread is judged from this probe on.
    """
    expect, found = spec.expect, []
    if expect.outcome == "unhandled":
        found.append(_all([unhandled(flow, nodes) for flow in flows], "outcome"))
    elif expect.outcome is not None:
        found.append(_all([verdict.expect_outcome(flow, expect.outcome) for flow in flows], "outcome"))
    if expect.endpoints:
        found.append(endpoints(flows, expect.endpoints))
    if expect.endpoints and expect.spread != "none":
        found.append(spread_check(flows[sample:], expect.endpoints, even=expect.spread == "even"))
    if expect.masqueraded is not None:
        found.append(_all([masqueraded(flow, nodes, expect.masqueraded) for flow in flows], "masqueraded"))
    if hops:
        checks = [verdict.expect_hops(flow, *hops) for flow in flows]
        found.append(_any(checks, "hops") if choice else _all(checks, "hops"))
    return [replace(check, name=f"{spec.name}: {check.name}") for check in found]


def _all(checks: Sequence[Check], name: str) -> Check:
    """One check of many probes: the first that fails, else the first."""
    bad = [check for check in checks if not check.passed]
    told = bad[0] if bad else checks[0]
    observed = told.observed
    if len(checks) > 1:
        observed += f" ({len(bad) or len(checks)} of {len(checks)} probes)" if bad else f" (all {len(checks)} probes)"
    return replace(told, name=name, observed=observed)


def _any(checks: Sequence[Check], name: str) -> Check:
    """One check of many probes: the first that passes; else what they did, each way once."""
    good = next((check for check in checks if check.passed), None)
    if good is not None:
        return replace(good, name=name)
    ways_seen = Counter(check.observed for check in checks)
    observed = "; ".join(f"{way} ({count} of {len(checks)} probes)" for way, count in ways_seen.most_common(4))
    return replace(checks[0], name=name, observed=observed)


def takes(hit: RuleHit) -> bool:
    """Whether a rule is a Service's own, or one of kube-proxy's that refuses or drops."""
    ours = hit.table == NFT_TABLE or hit.chain.startswith("KUBE-")
    if ours and hit.verdict.lower().startswith(("drop", "reject")):
        return True
    if hit.table == NFT_TABLE:
        return NFT_CHAINS.match(hit.chain) is not None
    return hit.chain.startswith(SERVICE_CHAINS)


def unhandled(flow: Flow, nodes: Collection[str]) -> Check:
    """On every node that the packet passed, the traced rules show that no Service took it, and its target stayed.

    A packet that leaves the cluster untouched was left alone, also when a balancer out there sends it back in.
    """
    expected = "no rule of a Service takes it on any node"
    here = list(takewhile(lambda hop: hop.node in nodes, dropwhile(lambda hop: hop.node not in nodes, flow.forward)))
    if not here:
        return Check("outcome", False, expected, f"no node saw it; {absent(flow)}", ways(flow.forward))
    faults = [words for hop in here if (words := _taken(hop, flow))]
    if faults:
        return Check("outcome", False, expected, "; ".join(faults), ways(here))
    names = ", ".join(dict.fromkeys(hop.node for hop in here))
    rules = sum(len(hop.rules) for hop in here)
    observed = f"none of the {rules} rules that it met on {names}; {flow.outcome}"
    observed += f": {flow.reason}" if flow.reason else ""
    return Check("outcome", True, expected, observed, ways(here))


def _taken(hop: Hop, flow: Flow) -> str:
    if not hop.rules:
        return f"no rule trace of the packet exists in {hop.node}, so nothing shows that no rule took it"
    hit = next(filter(takes, hop.rules), None)
    if hit is not None:
        return f"{hop.node}: {rule_words(hit)}"
    if (hop.before.dst, hop.before.dport) != (hop.after.dst, hop.after.dport):
        return f"{hop.node} rewrote the destination to {endpoint(hop.after.dst, hop.after.dport)}"
    return lost(flow, hop.node, "trace")


def masqueraded(flow: Flow, nodes: Collection[str], wanted: bool) -> Check:
    """Whether a masquerade rule of a node was seen to take the first packet, on its way there."""
    expected = "a node's masquerade rule takes it" if wanted else "no node's masquerade rule takes it"
    here = [hop for hop in flow.forward if hop.node in nodes]
    if not here:
        return Check("masqueraded", False, expected, f"no node saw it; {absent(flow)}", ways(flow.forward))
    taken = [(hop, hit) for hop in here for hit in hop.rules if is_masquerade(hit)]
    evidence = (*ways(here), *(f"rule {rule_words(hit)}" for _hop, hit in taken))
    if taken:
        hop, hit = taken[0]
        changed = "" if hop.before.src == hop.after.src else f", the source became {hop.after.src}"
        return Check("masqueraded", wanted, expected, f"{hop.node}: {rule_words(hit)}{changed}", evidence)
    blind = [f"no rule trace of the packet exists in {hop.node}" for hop in here if not hop.rules]
    blind += [words for hop in here if (words := lost(flow, hop.node, "trace"))]
    if blind:
        return Check("masqueraded", False, expected, "; ".join(blind), evidence)
    if wanted:
        return Check("masqueraded", False, expected, "; ".join(without_rule(hop) for hop in here), evidence)
    seen = ", ".join(f"{hop.node} left the source {hop.after.src} after {len(hop.rules)} rules" for hop in here)
    return Check("masqueraded", True, expected, seen, evidence)


def endpoints(flows: Sequence[Flow], wanted: Sequence[tuple[str, int]]) -> Check:
    """Every probe was delivered to one of these endpoints and answered."""
    checks = [verdict.expect_endpoint(flow, wanted) for flow in flows]
    check = _all(checks, "endpoints")
    if check.passed and len(flows) > 1:
        return replace(check, observed=_counted(_answered(flows), wanted))
    return check


def spread_check(flows: Sequence[Flow], wanted: Sequence[tuple[str, int]], *, even: bool) -> Check:
    """Each of these endpoints answered at least once; `even`: and their shares are equal, by a chi-square test."""
    counts = _answered(flows)
    number, total = len(wanted), len(flows)
    absent_ones = [one for one in wanted if not counts[one]]
    observed = _counted(counts, wanted)
    if absent_ones:
        least = spread.LEAST_SHARE / number
        risk = spread.risk_of_missing(1, total, least)
        names = ", ".join(endpoint(*one) for one in absent_ones)
        observed += (
            f"; never answered: {names} (by chance with a probability below {risk:.0e} at a share of {least:.3f})"
        )
    shares = [counts[one] for one in wanted]
    probability = spread.chance(shares) if sum(shares) else 0.0
    if not absent_ones:
        observed += f"; chi-square {spread.chi_square(shares):.2f}, probability {probability:.4f} for equal shares"
    expected = f"each of {number} endpoints answers" + (f", with equal shares (p >= {spread.UNEVEN})" if even else "")
    passed = not absent_ones and (not even or probability >= spread.UNEVEN)
    return Check("spread", passed, expected, observed)


def uneven(flows: Sequence[Flow], wanted: Sequence[tuple[str, int]]) -> bool:
    """Whether the counts are so unequal that chance gives such ones once in a thousand times at most."""
    counts = _answered(flows)
    shares = [counts[one] for one in wanted]
    return not sum(shares) or spread.chance(shares) < spread.UNEVEN


def seen_all(flows: Sequence[Flow], wanted: Sequence[tuple[str, int]]) -> bool:
    """Whether each of these endpoints answered at least once."""
    counts = _answered(flows)
    return all(counts[one] for one in wanted)


def _answered(flows: Sequence[Flow]) -> Counter[tuple[str, int]]:
    hops = [receiver(flow) for flow in flows if flow.outcome == "accepted"]
    return Counter((hop.after.dst, hop.after.dport) for hop in hops if hop is not None)


def _counted(counts: Counter[tuple[str, int]], wanted: Sequence[tuple[str, int]]) -> str:
    every = dict.fromkeys((*wanted, *counts))
    return ", ".join(f"{endpoint(*one)} {counts[one]}" for one in every) + f" of {counts.total()} probes"
