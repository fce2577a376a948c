"""Causes that lie in rules: one that took the packet, a choice that chose nothing, a balancer that mixes flows up.

kube-proxy's rules for what must not pass carry their reason as a comment ("has no local
endpoints"); a base chain's policy has none.  Sources: kube-proxy's
pkg/proxy/iptables/proxier.go and nftables/proxier.go, hoplab's balancer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hoplab.hops.decisive import decides, unquoted
from hoplab.hops.reason import Reason
from hoplab.hops.story import Hop, Passage, RuleHit
from hoplab.hops.words import endpoint, rule_words, tuple_words
from hoplab.reasons.case import INSTRUMENTS, Case, counter_words, hit_words, hop_words

_INVALID = re.compile(r"ct ?state invalid|ctstate INVALID", re.IGNORECASE)
_SERVICE_CHAIN = re.compile(r"^(?:jump|goto) (KUBE-(?:SVC|SVL|EXT|XLB)-\w+|(?:service|external|local)-[0-9A-Z]{8}-\S+)")
_NOT_LOCAL = re.compile(r"has no local endpoints|@no-endpoint-")
"""iptables says it in a comment; nftables has an element with verdict drop in one of its maps."""
_INVALID_PORT = "cluster-ips-check"
"""nftables' chain that rejects what is for a cluster IP and no Service's chain rewrote."""


def taken_by_rule(case: Case) -> Reason | None:
    """A trace saw a rule or a policy end the packet, and no frame left behind it."""
    for passage in (*case.there, *case.back):
        hop = passage.hops[-1]
        hit = taker(hop)
        if hit is not None:
            return _by_kind(case, passage, hop, hit)
    return None


def taker(hop: Hop) -> RuleHit | None:
    """The rule that dropped or rejected in this hop, where nothing left it."""
    if hop.out_interface is not None:
        return None
    return next((h for h in hop.rules if decides(h) in ("drop", "reject") and h.table not in INSTRUMENTS), None)


def _by_kind(case: Case, passage: Passage, hop: Hop, hit: RuleHit) -> Reason:
    what = "the answer" if passage.reply else "the packet"
    done = "rejects" if decides(hit) == "reject" else "drops"
    # Only kube-proxy's own rules (and the balancer's) stand for an object; anybody else's stands for itself.
    proxys = hit.chain.startswith("KUBE-") or hit.table in ("kube-proxy", "balancer")
    behind = case.object_of(hop, hit) if proxys else ""
    text = f"{hit.comment} {hit.rule}"
    evidence = [hit_words(hop, hit), hop_words(hop)]
    where = f"table {hit.table}, chain {hit.chain}"
    if case.role(hop.node) == "balancer" and "no node passes" in text:
        asked = [f"health check: {f.node} at {endpoint(f.address, f.port)}: {f.detail}" for f in case.facts.health]
        return case.reason(
            "no-candidates",
            hop.node,
            f"{hop.node} has no node to hand {tuple_words(hop.before)} to: none passes its health check",
            hop,
            [*evidence, *asked],
            "Ask a node yourself: `lab.py exec lb -- curl -i http://NODE:10256/healthz` (policy Local: the Service's"
            " healthCheckNodePort).",
            behind,
        )
    if hit.chain == _INVALID_PORT and (fell_through := nothing_chosen(case)) is not None:
        return fell_through
    if _NOT_LOCAL.search(text) and decides(hit) == "drop":
        return _no_local_endpoints(case, hop, evidence, behind)
    if hit.rule == "policy":
        return case.reason(
            "policy",
            hop.node,
            f"{what} met no rule that accepts it, and the policy of {where} is {hit.verdict}",
            hop,
            [f"rule trace in {hop.node}: {hit.family} {hit.table} {hit.chain}: policy {hit.verdict}", hop_words(hop)],
            f"On {hop.node}: `iptables -L {hit.chain} -nv`; add the missing accept, or `iptables -P {hit.chain}"
            " ACCEPT`.",
            f"policy of {hit.table} {hit.chain}",
        )
    if _INVALID.search(unquoted(hit.rule)):
        grown = case.grown(hop.node, "conntrack.invalid")
        return case.reason(
            "invalid-state",
            hop.node,
            f"connection tracking of {hop.node} calls {what} invalid, and a rule {done} what is invalid",
            hop,
            [*evidence, *counter_words(hop.node, grown)],
            f"Look for the other half of the connection: on {hop.node} `conntrack -L`; a packet of a connection that"
            " began"
            " elsewhere, or one outside of the window, is invalid.",
            behind or where,
        )
    if "has no endpoints" in text or any("@no-endpoint-" in one.rule for one in hop.rules):
        words = f"{hop.node} {done} {what}: the Service has no endpoints"
        step = "`lab.py kubectl get endpointslices`: does the Service's selector match a pod that is ready?"
    else:
        words = f"a rule of {hop.node} {done} {what}: {where}"
        listing = f"`iptables-save -t {hit.table}` or `nft list ruleset`"
        step = f"On {hop.node}: {listing}; who wrote this rule, and is it meant?"
    to = case.chosen()
    evidence.append(f"it was on its way to {to}" if to and not behind else "")
    return case.reason("rule", hop.node, words, hop, evidence, step, behind or f"{where}: {rule_words(hit)}")


def _no_local_endpoints(case: Case, hop: Hop, evidence: list[str], behind: str) -> Reason:
    """A node without a pod of the Service was handed a flow under policy Local."""
    balancer = next((h for h in case.flow.forward if case.role(h.node) == "balancer"), None)
    service = (behind or case.chosen()).rpartition(" of ")[2].partition(":")[0]
    answers = [f for f in case.facts.health if (f.node, f.service) == (hop.node, service)]
    asked = [f"health check: {f.node} at {endpoint(f.address, f.port)}: {f.detail}" for f in answers]
    if balancer is None:
        words = f"{hop.node} has no endpoint of its own, and the policy Local lets it use no other"
        step = "Send to a node that runs a pod of the Service, or set the policy to Cluster."
        return case.reason("rule", hop.node, words, hop, evidence, step, behind)
    words = (
        f"{balancer.node} handed the flow to {hop.node}, which has no endpoint of its own under externalTrafficPolicy"
        " Local: the health check should have kept it out"
    )
    step = (
        f"On {balancer.node}: which nodes does the balancer count as healthy, and what does {hop.node} answer on the"
        " Service's healthCheckNodePort?"
    )
    about = behind or case.chosen()
    return case.reason("health-check", balancer.node, words, hop, [*evidence, *asked, hop_words(balancer)], step, about)


def nothing_chosen(case: Case) -> Reason | None:
    """A packet went into a Service's chain and came out of it with the destination that it had."""
    for hop in case.flow.forward:
        entered = next((hit for hit in hop.rules if _SERVICE_CHAIN.match(hit.verdict)), None)
        if entered is None or "DNAT" in hop.rewrite or any(decides(hit) == "DNAT" for hit in hop.rules):
            continue
        chain = [
            hit for hit in hop.rules if _SERVICE_CHAIN.match(hit.verdict) or _SERVICE_CHAIN.match(f"jump {hit.chain}")
        ]
        last = chain[-1]
        name = last.verdict.split()[-1] if _SERVICE_CHAIN.match(last.verdict) else last.chain
        behind = case.object_of(hop, last)
        return case.reason(
            "no-endpoint-chosen",
            hop.node,
            f"no rule of chain {name} chose an endpoint, so {endpoint(hop.before.dst, hop.before.dport)} was not"
            " rewritten",
            hop,
            [*(hit_words(hop, hit) for hit in chain), hop_words(hop)],
            f"On {hop.node}: do the probabilities of {name} end with a rule without one, and does each endpoint have a"
            f" rule? `iptables -t nat -S {name}`",
            behind or name,
        )
    return None


def per_packet(case: Case) -> Reason | None:
    """Packets of one connection that a balancer handed to different nodes."""
    for place in dict.fromkeys(h.node for p in case.there for h in p.hops if case.role(h.node) == "balancer"):
        handed = list(_handed(case, place))
        nodes = list(dict.fromkeys(node for node, _words in handed))
        if len(nodes) > 1:
            first = next(hop for p in case.there for hop in p.hops if hop.node == place)
            hits = [hit_words(first, hit) for hit in first.rules if decides(hit) or "numgen" in hit.rule]
            return case.reason(
                "per-packet-balancing",
                place,
                f"{place} handed packets of one connection to {' and '.join(nodes)}: it balances packets, not flows",
                first,
                [*(words for _node, words in handed), *hits],
                f"On {place}: a balancer must remember its choice (conntrack, a hash over the five-tuple), not count"
                " packets.",
                endpoint(first.before.dst, first.before.dport),
            )
    return None


def _handed(case: Case, place: str) -> Iterator[tuple[str, str]]:
    for passage in case.there:
        for at, hop in enumerate(passage.hops):
            if hop.node != place or hop.out_interface is None:
                continue
            if at + 1 < len(passage.hops):
                to = passage.hops[at + 1].node
            else:
                owner = case.owner(hop.mac_out[1]) if hop.mac_out else None
                to = owner.node if owner else ""
            if case.role(to) == "node":
                yield to, f"{passage.label} {tuple_words(hop.after)} to {to}: {hop_words(hop)}"


def stale_entry(case: Case) -> Reason | None:
    """The destination was rewritten without a rule: by an entry older than the flow, to an address gone dead."""
    for hop in case.flow.forward:
        traced = [hit for hit in hop.rules if hit.table not in INSTRUMENTS]
        rewritten = "DNAT" in hop.rewrite or hop.before.dst != hop.after.dst
        if not rewritten or not traced or any(decides(hit) in ("DNAT", "redirect") for hit in traced):
            continue
        entries = [
            e
            for e in case.facts.entries
            if e.node == hop.node and e.original == hop.before and e.reply.src == hop.after.dst
        ]
        if case.holders(hop.after.dst):
            # A client that uses a port again meets its own entry: nothing is wrong with that.
            continue
        told = [
            f"conntrack of {e.node}: {tuple_words(e.original)}, answer expected as {tuple_words(e.reply)}"
            + ("" if e.status & 2 else ", none seen (UNREPLIED)")
            for e in entries
        ]
        return case.reason(
            "stale-conntrack",
            hop.node,
            f"connection tracking of {hop.node} still sends {endpoint(hop.before.dst, hop.before.dport)} to"
            f" {endpoint(hop.after.dst, hop.after.dport)}, which nobody has any more: no rule was asked",
            hop,
            [*told, f"rule trace in {hop.node}: {len(traced)} rules met, none of them rewrote", hop_words(hop)],
            f"On {hop.node}: `conntrack -D -p {case.flow.protocol} --orig-dst {hop.before.dst}`; a new source port"
            " works"
            " at once.",
            f"conntrack entry to {endpoint(hop.after.dst, hop.after.dport)}",
        )
    return None
