"""Causes that show in the answer: one that came from the wrong address, a refusal, an ICMP error.

NAT is undone where it was made, by the connection tracking of that node.  An answer that
passes it by, or passes it without being recognized, keeps the pod's own address, and the
client takes it for nobody's (its kernel answers with a reset).
"""

from __future__ import annotations

from hoplab.hops.decisive import decides, unquoted
from hoplab.hops.findings import is_masquerade
from hoplab.hops.packet import Packet
from hoplab.hops.reason import Reason
from hoplab.hops.story import Hop, Passage, RuleHit
from hoplab.hops.words import endpoint, icmp_words, tuple_words
from hoplab.reasons.case import Case, counter_words, hit_words, hop_words

BRIDGE_NF = "net.bridge.bridge-nf-call-iptables"


def not_undone(case: Case) -> Reason | None:
    """An answer whose rewrite was not undone, at the node that made it or because it never came by."""
    expected = case.sent.reversed()
    for answer in case.back:
        came = case.arrived(answer)
        if (came and answer.hops[-1].after == expected) or not case.flow.forward:
            continue
        made = _rewrites(case, answer)
        for hop in reversed(made):
            passed = next((h for h in answer.hops if h.node == hop.node and h.in_interface is not None), None)
            if passed is None:
                if came or case.role(answer.hops[-1].node) in ("client", "balancer", "router"):
                    return _bypassed(case, answer, hop)
            elif passed.before == passed.after:
                if _bridged(case, passed):
                    return _bridge_netfilter(case, answer, hop, passed)
                if came or passed.out_interface is None or len(answer.hops) > answer.hops.index(passed) + 1:
                    return _not_recognized(case, answer, hop, passed)
    return None


def _rewrites(case: Case, answer: Passage) -> list[Hop]:
    """The hops that rewrote what this answers, in the order of the way there."""
    by = answer.hops[0].node
    return [hop for hop in case.flow.forward if hop.rewrite and hop.out_interface is not None and hop.node != by]


def wrong_source(case: Case) -> Reason | None:
    """The receiver answered from another address than it had been asked at."""
    for answer in case.back:
        first = answer.hops[0]
        asked = next((p.hops[-1].after.dst for p in case.there if p.hops[-1].node == first.node), "")
        mine = first.in_interface is None and case.role(first.node) in ("pod", "client", "host")
        if mine and asked and first.after.src != asked:
            return _wrong_source(case, answer, asked)
    return None


def _wrong_source(case: Case, answer: Passage, asked: str) -> Reason:
    first = answer.hops[0]
    return case.reason(
        "wrong-source",
        first.node,
        f"{first.node} was asked at {asked} and answered from {first.after.src}: no rewrite undoes that",
        answer.hops[-1],
        [hop_words(first), f"the answer left as {tuple_words(first.after)}"],
        f"In {first.node}: `ip address`, `ip route`, and its own rules (`nft list ruleset`): what sets the source?",
        case.chosen(),
    )


def _bypassed(case: Case, answer: Passage, hop: Hop) -> Reason:
    first, last = answer.hops[0], answer.hops[-1]
    way = " -> ".join(one.node for one in answer.hops)
    masqueraded = any(is_masquerade(hit) for hit in hop.rules)
    entry = next((e for e in hop.conntrack if e.node == hop.node), None)
    unreplied = (
        f"conntrack of {hop.node}: {tuple_words(entry.original)} UNREPLIED" if entry and not entry.status & 2 else ""
    )
    why = "" if masqueraded else " without a masquerade"
    words = (
        f"{hop.node} rewrote {endpoint(hop.before.dst, hop.before.dport)} to {endpoint(hop.after.dst, hop.after.dport)}"
        f"{why}, so the answer of {first.node} went past it ({way}) and came as"
        f" {endpoint(last.after.src, last.after.sport)}"
    )
    traced = (
        "" if masqueraded or not hop.rules else f"rule trace in {hop.node}: no masquerade rule among {len(hop.rules)}"
    )
    choice = next((hit for hit in hop.rules if decides(hit) == "DNAT"), None)
    return case.reason(
        "answer-bypasses-nat",
        hop.node,
        words,
        last,
        [hop_words(hop), traced, unreplied, f"the answer: {tuple_words(first.after)}, {hop_words(first)}"],
        f"On {hop.node}: does the packet meet KUBE-MARK-MASQ (mark 0x4000) and the masquerade of KUBE-POSTROUTING? If"
        " the"
        " source shall stay (policy Local), the answer's way has to lead through this node.",
        case.object_of(hop, choice) if choice else case.chosen(),
    )


def _bridged(case: Case, hop: Hop) -> bool:
    """Whether it went from port to port of one bridge, without meeting IP."""
    ports = [case.link(hop.node, name or "") for name in (hop.in_interface, hop.out_interface)]
    masters = [port.master for port in ports if port is not None]
    return hop.ttl_in == hop.ttl_out and len(masters) == 2 and masters[0] != "" and masters[0] == masters[1]


def _bridge_netfilter(case: Case, answer: Passage, hop: Hop, passed: Hop) -> Reason:
    value = case.setting(hop.node, BRIDGE_NF)
    bridge = next((link.master for link in case.facts.links if link.name == passed.in_interface), "")
    return case.reason(
        "bridge-netfilter-off",
        hop.node,
        f"the answer crossed the bridge {bridge} of {hop.node} without meeting its connection tracking, so"
        f" {endpoint(answer.hops[0].after.src, answer.hops[0].after.sport)} was not made"
        f" {endpoint(hop.before.dst, hop.before.dport)} again",
        answer.hops[-1],
        [
            f"the answer was bridged: {hop_words(passed)}, TTL stayed {passed.ttl_in}",
            f"{BRIDGE_NF} of {hop.node} is {value}" if value else "",
            f"the answer came as {tuple_words(answer.hops[-1].after)}",
        ],
        f"On {hop.node}: `modprobe br_netfilter; sysctl -w {BRIDGE_NF}=1`.",
        case.chosen(),
        decided=value != "1",
        experiment=""
        if value != "1"
        else f"On {hop.node}: `conntrack -E` while the flow is sent: does the entry see the answer?",
    )


def _untracked(hit: RuleHit) -> bool:
    text = unquoted(hit.rule).lower()
    return "notrack" in text


def _not_recognized(case: Case, answer: Passage, hop: Hop, passed: Hop) -> Reason:
    undone = [p for p in case.back if any(h.node == hop.node and h.before != h.after for h in p.hops)]
    untracked = next((hit for h in answer.hops for hit in h.rules if h.node == hop.node and _untracked(hit)), None)
    last = answer.hops[-1]
    what = f"{answer.label} {tuple_words(passed.before)} went through {hop.node} as it was"
    if untracked is not None:
        return case.reason(
            "rule",
            hop.node,
            f"a rule of {hop.node} takes the answer out of connection tracking, so the rewrite was not undone",
            last,
            [hit_words(passed, untracked), hop_words(passed), what],
            f"On {hop.node}: `iptables-save -t raw`: remove the NOTRACK rule, or exempt what is rewritten.",
            f"table {untracked.table}, chain {untracked.chain}: {untracked.rule}",
        )
    grown = case.grown(hop.node, "conntrack.invalid")
    liberal = case.setting(hop.node, "net.netfilter.nf_conntrack_tcp_be_liberal")
    evidence = [what, hop_words(passed), *counter_words(hop.node, grown)]
    if undone:
        evidence.append(f"{undone[0].label} of the same connection was undone there")
    if liberal:
        evidence.append(f"net.netfilter.nf_conntrack_tcp_be_liberal of {hop.node} is {liberal}")
    return case.reason(
        "invalid-state",
        hop.node,
        f"connection tracking of {hop.node} did not take {answer.label} for a part of the connection (invalid), so it"
        " was"
        f" not rewritten back and went on with {endpoint(passed.after.src, passed.after.sport)} as its source",
        last,
        evidence,
        f"On {hop.node}: drop what is invalid (kube-proxy's `-m conntrack --ctstate INVALID -j DROP` in"
        " KUBE-FORWARD), or"
        " `sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1`; and find out who sends segments outside of the"
        " window.",
        case.chosen(),
        decided=bool(undone or grown),
        experiment=""
        if undone or grown
        else f"On {hop.node}: `conntrack -L` and `cat /proc/net/stat/nf_conntrack` before and after one more flow: no"
        " entry"
        " means that the packet was not tracked, a growing `invalid` that it was refused.",
    )


def refused(case: Case) -> Reason | None:
    """A reset or an ICMP error came instead of an answer."""
    if case.flow.outcome != "rejected":
        return None
    error = next((p for p in case.errors if case.arrived(p)), None)
    resets = [p for p in case.back if p.label == "RST" and case.arrived(p)]
    if resets:
        return _reset(case, resets[-1])
    packet = case.packet(error.hops[0]) or case.packet(error.hops[-1]) if error else None
    if error is not None and packet is not None and packet.kind in ((3, 3), (3, 2), (1, 4)):
        return _closed(case, error, f"{icmp_words(packet)}")
    return None


def _reset(case: Case, answer: Passage) -> Reason:
    return _closed(case, answer, f"RST {tuple_words(answer.hops[0].after)}")


def _closed(case: Case, answer: Passage, came: str) -> Reason:
    """Nobody listens on that port at the receiver."""
    made = answer.hops[0]
    last = case.flow.forward[-1]
    arrived = next((p.hops[-1] for p in case.there if p.hops[-1].node == made.node), last)
    port, protocol = arrived.after.dport, case.flow.protocol
    mine = [one for one in case.facts.listeners if one.node == made.node and one.protocol == protocol]
    here = [one for one in mine if one.port == port]
    everywhere = {"0.0.0.0", "::", arrived.after.dst}
    open_ports = ", ".join(sorted({endpoint(one.address, one.port) for one in mine})) or "nothing"
    evidence = [f"{came}, made by {made.node}: {hop_words(made)}", f"delivered: {hop_words(arrived)}"]
    evidence.append(f"{made.node} listens on ({protocol}): {open_ports}")
    if any(one.address in everywhere for one in here) and answer.label == "RST":
        return case.reason(
            "port-closed",
            made.node,
            f"{made.node} reset the connection although it listens on port {port}: its program or its own rules did it",
            made,
            evidence,
            f"In {made.node}: what does the program log, is its queue of connections full, has it rules (`nft list"
            " ruleset`)?",
            case.chosen(),
            decided=False,
            experiment=f"`lab.py exec {made.node} -- curl http://{endpoint(arrived.after.dst, port)}/`: refused as well"
            " means the program, answered means what stands before it.",
        )
    bound = (
        f": it listens on {endpoint(here[0].address, port)} only" if here else f": nothing there listens on port {port}"
    )
    changed = case.changed_rule()
    step = (
        "Have the program listen on 0.0.0.0 instead."
        if here
        else "Compare the Service's targetPort, the pod's containerPort and what the program listens on"
        f" ({open_ports})."
    )
    behind = case.chosen() or endpoint(arrived.after.dst, port)
    if case.role(made.node) == "node" and "DNAT" not in arrived.rewrite:
        evidence.append(f"rule trace in {made.node}: {len(arrived.rules)} rules met, none rewrote")
        untracked = next((hit for hit in arrived.rules if _untracked(hit)), None)
        if untracked is not None:
            return case.reason(
                "rule",
                made.node,
                f"a rule of {made.node} takes the packet out of connection tracking, so that no rule can rewrite it: it"
                " came to the node itself, where nobody listens",
                made,
                [hit_words(arrived, untracked), *evidence],
                f"On {made.node}: `iptables-save -t raw`: remove the NOTRACK rule, or exempt what is rewritten.",
                f"table {untracked.table}, chain {untracked.chain}: {untracked.rule}",
            )
        step = (
            f"On {made.node}: is there a Service with this node port, and are its rules loaded (`iptables-save -t nat`,"
            " `nft list ruleset`)?"
        )
    return case.reason(
        "port-closed",
        made.node,
        f"{made.node} refused {endpoint(arrived.after.dst, port)}{bound}",
        made,
        [*evidence, changed],
        step,
        behind,
    )


def error_packet(case: Case) -> tuple[Passage, Packet] | None:
    """The first ICMP error that came to the sender, with what it says."""
    for passage in case.errors:
        packet = case.packet(passage.hops[-1])
        if case.arrived(passage) and packet is not None:
            return passage, packet
    return None
