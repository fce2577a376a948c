"""What was expected of a flow, held against what was seen: one `Check` each.

A check passes only on evidence.  A rewrite counts when frames showed the packet
both before and after it; a hop counts when the packet was seen to come in and to
leave; "nothing happened" counts when there was somewhere to see it and nothing was
lost there.  Without that the check fails and says what was missing.  A failed check
tells what was expected, what was observed, and where: node, interface, frames, rule.
"""

from __future__ import annotations

from collections.abc import Collection

from hoplab.hops.evidence import Tuple
from hoplab.hops.findings import (
    Check,
    absent,
    gaps,
    is_masquerade,
    lost,
    on_hop,
    receiver,
    rewrite_words,
    source_words,
    unseen,
    ways,
    without_rule,
)
from hoplab.hops.story import Flow, Hop, Outcome, RuleHit
from hoplab.hops.words import endpoint, frames_words, rule_words, tuple_words, way_words


def expect_hops(flow: Flow, *nodes: str, name: str = "") -> Check:
    """The first packet passed exactly these namespaces in this order, each one seen at both of its ends."""
    seen = [hop.node for hop in flow.forward]
    faults = gaps(flow.forward) if seen == list(nodes) else []
    observed = " -> ".join(seen) if seen else "no hop was seen"
    if faults:
        observed += "; " + "; ".join(faults)
    elif seen != list(nodes) and flow.reason:
        observed += f"; {flow.reason}"
    passed = bool(nodes) and seen == list(nodes) and not faults
    return Check(name or "hops", passed, " -> ".join(nodes), observed, ways(flow.forward))


def expect_reply_hops(flow: Flow, *nodes: str, name: str = "") -> Check:
    """The first answer passed exactly these namespaces in this order."""
    seen = [hop.node for hop in flow.reply]
    faults = gaps(flow.reply) if seen == list(nodes) else []
    observed = " -> ".join(seen) if seen else "no answer was seen"
    if faults:
        observed += "; " + "; ".join(faults)
    passed = bool(nodes) and seen == list(nodes) and not faults
    return Check(name or "way back", passed, " -> ".join(nodes), observed, ways(flow.reply))


def expect_dnat(flow: Flow, on: str, to: str, port: int, name: str = "") -> Check:
    """On that node, frames show the destination rewritten to this address and port."""
    expected = f"{on} rewrites the destination to {endpoint(to, port)}"

    def fault(hop: Hop) -> str:
        before, after = (hop.before.dst, hop.before.dport), (hop.after.dst, hop.after.dport)
        if before == after:
            return unseen(hop, flow) or f"the destination stayed {endpoint(*before)}"
        if after != (to, port):
            return f"the destination became {endpoint(*after)}, from {endpoint(*before)}"
        return unseen(hop, flow)

    return on_hop(name or f"DNAT on {on}", expected, flow, on, fault)


def expect_masquerade(
    flow: Flow, on: str, *, to: Collection[str] = (), address_may_stay: bool = False, name: str = ""
) -> Check:
    """On that node a masquerade rule took the packet, and frames show another source behind it.

    `to`: the addresses that it may have become, if that matters.  With `address_may_stay`
    the rule is enough: masquerading a node's own traffic may find that its source is
    already right.
    """
    expected = f"{on} masquerades: a masquerade rule takes the packet"
    expected += "" if address_may_stay else f" and its source becomes {' or '.join(to) or 'another'}"

    def fault(hop: Hop) -> str:
        if not any(is_masquerade(hit) for hit in hop.rules):
            return f"{without_rule(hop)}; {source_words(hop)}"
        if address_may_stay:
            return ""
        if missing := unseen(hop, flow):
            return missing
        right = hop.before.src != hop.after.src and (not to or hop.after.src in to)
        return "" if right else source_words(hop)

    return on_hop(name or f"masquerade on {on}", expected, flow, on, fault, is_masquerade)


def expect_no_masquerade(flow: Flow, on: str, name: str = "") -> Check:
    """On that node the rules were traced, none of them masqueraded, and the source stayed."""

    def fault(hop: Hop) -> str:
        if not hop.rules:
            return "no rule trace of the packet exists there"
        taken = next((hit for hit in hop.rules if is_masquerade(hit)), None)
        if taken is not None:
            return f"masqueraded by {rule_words(taken)}"
        return (
            lost(flow, on, "trace")
            or unseen(hop, flow)
            or ("" if hop.before.src == hop.after.src else source_words(hop))
        )

    return on_hop(name or f"no masquerade on {on}", f"{on} keeps the source", flow, on, fault, is_masquerade)


def expect_no_nat(flow: Flow, on: str = "", name: str = "") -> Check:
    """Neither address nor port changed, on that node or on the whole way there and back."""
    where = on or "the whole way"
    expected = f"no address or port changes on {where}"
    hops = [hop for hop in (*flow.forward, *flow.reply) if not on or hop.node == on]
    there = [hop for hop in flow.forward if not on or hop.node == on]
    if not there:
        return Check(name or f"no NAT on {where}", False, expected, absent(flow, on), ways(flow.forward))
    faults = [f"{way_words(hop)}: {rewrite_words(hop)}" for hop in hops if hop.before != hop.after]
    faults += [f"{hop.node}: {words}" for hop in hops if (words := unseen(hop, flow))]
    if not on:
        faults += gaps(flow.forward) + (gaps(flow.reply) if flow.reply else [])
    observed = "; ".join(dict.fromkeys(faults)) or f"{tuple_words(there[0].before)} unchanged over {len(hops)} hops"
    return Check(name or f"no NAT on {where}", not faults, expected, observed, ways(hops))


def expect_source_seen(flow: Flow, address: str, at: str = "", name: str = "") -> Check:
    """The packet came to its receiver (or to the namespace `at`) with this source address.

    Without `at` the receiver is who answered; a packet that nobody answered needs `at`.
    """
    hop = next((h for h in flow.forward if h.node == at), None) if at else receiver(flow)
    where = at or (hop.node if hop else "the receiver")
    expected = f"{where} sees {address} as the source"
    title = name or f"source seen by {where}"
    if hop is None or hop.in_interface is None:
        return Check(title, False, expected, absent(flow, at), ways(flow.forward))
    observed = f"{hop.node} saw {endpoint(hop.before.src, hop.before.sport)} come in by {hop.in_interface}"
    return Check(title, hop.before.src == address, expected, observed, ways([hop]))


def expect_endpoint(flow: Flow, endpoints: Collection[tuple[str, int]], name: str = "") -> Check:
    """The packet was delivered to one of these addresses and ports, and the answer was accepted."""
    expected = "delivered to " + " or ".join(endpoint(*one) for one in sorted(endpoints))
    hop = receiver(flow)
    if hop is None:
        return Check(name or "endpoint", False, expected, absent(flow), ways(flow.forward))
    reached = (hop.after.dst, hop.after.dport)
    observed = f"{endpoint(*reached)} in {hop.node}, {flow.outcome}"
    if flow.reason:
        observed += f": {flow.reason}"
    passed = reached in endpoints and flow.outcome == "accepted"
    return Check(name or "endpoint", passed, expected, observed, ways([hop]))


def expect_reply_undone(flow: Flow, name: str = "") -> Check:
    """Every rewrite of the way there has its inverse on the way back at the same node.

    And the sender got the answer from exactly the tuple that it had addressed.
    """
    expected = "each rewrite is undone where it was made, and the answer comes from the address that was asked"
    title = name or "reply undone"
    if not flow.forward or not flow.reply:
        observed = "no packet was seen" if not flow.forward else f"no answer was seen: {flow.reason}"
        return Check(title, False, expected, observed, ways(flow.forward))
    faults: list[str] = gaps(flow.forward) + gaps(flow.reply)
    end, begin = flow.forward[-1], flow.reply[0]
    if end.node != begin.node:
        faults.append(f"the packet was last seen in {end.node}, but the answer began in {begin.node}")
    undone: list[str] = []
    for hop in flow.forward:
        if not hop.rewrite:
            continue
        inverse = [h for h in flow.reply if h.node == hop.node and h.before == hop.after.reversed()]
        if not inverse:
            back = next((h for h in flow.reply if h.node == hop.node), None)
            seen = f"it came in as {tuple_words(back.before)}" if back else "the answer did not pass it"
            faults.append(
                f"{hop.node} made {rewrite_words(hop)} ({frames_words(hop.frames)}), but on the way back {seen}"
            )
        elif not any(h.after == hop.before.reversed() for h in inverse):
            one = inverse[0]
            faults.append(
                f"{hop.node} sent the answer on as {tuple_words(one.after)} instead of"
                f" {tuple_words(hop.before.reversed())} ({way_words(one)}, {frames_words(one.frames)})"
            )
        else:
            undone.append(f"{hop.node}: {rewrite_words(inverse[0])}")
    asked, got = flow.forward[0], flow.reply[-1]
    if got.node != asked.node or got.in_interface is None:
        faults.append(f"the answer was not seen to come back to {asked.node}: {flow.reason}")
    elif got.after != asked.before.reversed():
        faults.append(
            f"{asked.node} asked {endpoint(asked.before.dst, asked.before.dport)} and got the answer as"
            f" {tuple_words(got.after)} ({frames_words(got.frames)})"
        )
    observed = "; ".join(faults) if faults else "; ".join([*undone, f"answer {tuple_words(got.after)}"])
    return Check(title, not faults, expected, observed, ways(flow.reply))


def expect_ttl(flow: Flow, at: str, ttl: int, name: str = "") -> Check:
    """The packet came into that namespace with this TTL."""
    expected = f"TTL {ttl} on arrival in {at}"

    def fault(hop: Hop) -> str:
        if hop.ttl_in is None:
            return "the packet was not seen to come in"
        return "" if hop.ttl_in == ttl else f"TTL {hop.ttl_in}"

    return on_hop(name or f"TTL at {at}", expected, flow, at, fault)


def expect_conntrack(
    flow: Flow, on: str, *, original: Tuple | None = None, reply: Tuple | None = None, name: str = ""
) -> Check:
    """That node has an entry for the flow, with these tuples if they are given."""
    wanted = [f"original {tuple_words(original)}"] if original else []
    wanted += [f"reply {tuple_words(reply)}"] if reply else []
    expected = f"{on} tracks the connection" + (": " + ", ".join(wanted) if wanted else "")
    entries = [entry for entry in flow.conntrack if entry.node == on]
    words = [f"original {tuple_words(e.original)}, reply {tuple_words(e.reply)}" for e in entries]
    fits = [e for e in entries if original in (None, e.original) and reply in (None, e.reply)]
    observed = "; ".join(words) or "no entry with the flow's tuples was seen there"
    if not fits:
        missing = lost(flow, on, "conntrack")
        observed += f"; {missing}" if missing else ""
    evidence = tuple(f"conntrack {on}: {one}" for one in words)
    return Check(name or f"conntrack on {on}", bool(fits), expected, observed, evidence)


def expect_outcome(flow: Flow, outcome: Outcome, name: str = "") -> Check:
    """How it ended.  'unanswered' and 'dropped' need that no frame of the sender's was lost."""
    observed = flow.outcome + (f": {flow.reason}" if flow.reason else "")
    passed = flow.outcome == outcome
    if outcome in ("unanswered", "dropped") and passed:
        sent = flow.forward[:1] and flow.forward[0].node == flow.sender and flow.forward[0].in_interface is None
        if not sent:
            passed, observed = False, f"{observed}; but no frame shows {flow.sender} sending it"
        elif missing := lost(flow, flow.sender, "frames"):
            passed, observed = False, f"{observed}; but {missing}, an answer may have been among it"
    elif passed and not flow.reply:
        passed, observed = False, f"{observed}; but no frame of an answer was seen"
    evidence = ways(flow.forward[-1:]) + ways(flow.reply[-1:])
    return Check(name or "outcome", passed, outcome, observed, evidence)


def expect_rule(
    flow: Flow, on: str, *, chain: str = "", text: str = "", verdict: str = "", reply: bool = False, name: str = ""
) -> Check:
    """On that node the packet met a rule of this chain, with this text or comment in it, and this verdict.

    What is not given is not asked for; `text` may be any part of the rule or its comment.
    """
    asked = [w for w in (chain and f"chain {chain}", text and repr(text), verdict and f"verdict {verdict}") if w]
    expected = f"{on}: a rule with {', '.join(asked)}"

    def wanted(hit: RuleHit) -> bool:
        return (
            chain in ("", hit.chain)
            and (text in hit.rule or text in hit.comment)
            and hit.verdict.lower().startswith(verdict.lower())
        )

    def fault(hop: Hop) -> str:
        return "" if asked and any(map(wanted, hop.rules)) else without_rule(hop)

    return on_hop(name or f"rule on {on}", expected, flow, on, fault, wanted, reply=reply)
