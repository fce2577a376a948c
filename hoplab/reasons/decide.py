"""From a failed flow to its reasons, the likeliest first.

The order is that of certainty: a rule trace that shows the end of a packet, then an
answer that tells by its address or its kind what went wrong, then the place where a
packet ended and what the kernel counted there.  What none of these explains is told as
unknown, with the causes that are left and the experiment that would tell them apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from hoplab.hops.evidence import Tuple
from hoplab.hops.reason import Reason
from hoplab.hops.story import Hop, Passage
from hoplab.hops.words import icmp_words, tuple_words
from hoplab.reasons import answers, ends, rules
from hoplab.reasons.case import Case, counter_words, hop_words
from hoplab.reasons.facts import LinkFact
from hoplab.reasons.links import gone_with_its_link, no_neighbour, passed_on_in_vain
from hoplab.reasons.questions import headed

ORDER: tuple[Callable[[Case], Reason | None], ...] = (
    rules.per_packet,
    answers.wrong_source,
    rules.taken_by_rule,
    answers.not_undone,
    rules.stale_entry,
    rules.nothing_chosen,
)


def reasons(case: Case) -> tuple[Reason, ...]:
    """Why this flow failed.  For one that was answered: why by the wrong one, () when nothing speaks against it."""
    twice = duplicate(case)
    if case.flow.outcome == "accepted":
        return _of_legs(case) or ((twice,) if twice else ())
    if not case.flow.forward:
        return (_not_sent(case),)
    found = next((one for cause in ORDER if (one := cause(case)) is not None), None)
    found = found or twice or answers.refused(case) or ends.ended(case)
    return (found,) if found else _of_legs(case) or (passed_on_in_vain(case) or _unknown(case),)


def _of_legs(case: Case) -> tuple[Reason, ...]:
    """What went wrong in a proxy's own connection for this flow is why its client was not served.

    Only what is certain counts: that a refused or lost connection was opened for this flow, its time alone says.
    """
    failed = (leg.flow for leg in case.flow.legs if leg.flow.forward and leg.flow.outcome != "accepted")
    told = (reasons(replace(case, flow=flow)) for flow in failed)
    return next((found for found in told if found and found[0].decided), ())


def duplicate(case: Case) -> Reason | None:
    """The address that the packet was sent to in the end belongs to two."""
    delivered = [p.hops[-1] for p in case.there] or list(case.flow.forward[-1:])
    for hop in delivered:
        if ipaddress.ip_address(hop.after.dst).is_loopback:
            # Every namespace has that address, and means itself by it.
            continue
        holders = [n for n in case.holders(hop.after.dst) if case.role(n) in ("pod", "client", "host")]
        if len(holders) < 2:
            continue
        links = [
            link
            for node in holders
            for link in case.facts.links
            if link.node == node and _has(case, link, hop.after.dst)
        ]
        homes = list(dict.fromkeys(case.facts.hosts.get(node, node) for node in holders))
        subnets = len(homes) > 1
        return case.reason(
            "duplicate-address",
            " and ".join(homes),
            f"{hop.after.dst} belongs to {' and '.join(case.at_home(n) for n in holders)}: who answers depends on the"
            " way",
            hop,
            [
                *(f"{link.node} has {hop.after.dst} on {link.name}, hardware address {link.mac}" for link in links),
                f"this time it went to {hop.node}: {hop_words(hop)}",
            ],
            "Give each node a pod subnet of its own (podCIDR, CNI's `subnet`), and start the pods of one of them anew."
            if subnets
            else "Give one of them another address.",
            hop.after.dst,
        )
    return None


def _has(case: Case, link: LinkFact, address: str) -> bool:
    return any((a.node, a.interface, a.address) == (link.node, link.name, address) for a in case.facts.addresses)


def _not_sent(case: Case) -> Reason:
    """No frame left: its own kernel found no way, or nobody at the next hop."""
    flow, sender = case.flow, case.flow.sender
    since = min((frame.time_ns for frame, _arp in case.arps), default=0)
    if flow.unsent is not None and (found := _no_way(case, flow.unsent, since)) is not None:
        return found
    asked = case.asked_in_vain(sender, since)
    if asked is not None:
        frame, arp = asked
        return Reason(
            "no-arp-answer",
            sender,
            f"{sender} found nobody who has {arp.target} on {frame.interface}, and so sent nothing",
            arp.target,
            f"{sender}, {frame.interface}: only the question for {arp.target} (frame {frame.number})",
            frame.interface,
            frame.number,
            (
                f"{sender} asked for {arp.target} by ARP on {frame.interface} (frame {frame.number}), no answer",
                *([] if case.holders(arp.target) else [f"no interface of the lab has {arp.target}"]),
            ),
            f"Who is {arp.target}, and is it on this link? In {sender}: `ip route get {arp.target}`.",
        )
    return Reason(
        "unknown",
        sender,
        flow.reason or "no frame of it was seen",
        next_step=f"In {sender}: `ip route`, `ip neighbour`; was it sent at all?",
        decided=False,
        experiment="Send it again with `-v`: frames of the sender's interface mean that it left.",
    )


def _no_way(case: Case, to: Tuple, since_ns: int) -> Reason | None:
    """The sender's own kernel had no way for it: as for a packet that was made there and ended there."""
    hop = Hop(case.flow.sender, None, None, to, to, None, None, time_ns=since_ns)
    answer = case.route(hop)
    evidence = [case.flow.reason, f"route to {to.dst} in {hop.node}: {answer.words}" if answer else ""]
    if answer is None or not answer.error:
        return no_neighbour(case, Passage("", (hop,)), hop)
    return gone_with_its_link(case, hop, evidence) or case.reason(
        "no-route",
        hop.node,
        f"{hop.node} has no route to {case.name_of(to.dst)}, and so sent nothing",
        hop,
        evidence,
        f"In {hop.node}: `ip route get {to.dst}`; is its default route there?",
        to.dst,
    )


def _unknown(case: Case) -> Reason:
    """Told as far as it was seen."""
    passage = ends.lost_packet(case)
    hop = headed(passage.hops[-1] if passage else case.flow.forward[-1])
    told = answers.error_packet(case)
    grown = {k: v for k, v in case.facts.growth.get(hop.node, {}).items() if _bad(k)}
    answer = case.route(hop)
    evidence = [
        hop_words(hop),
        case.flow.reason,
        icmp_words(told[1]) if told else "",
        f"route to {hop.after.dst} in {hop.node}: {answer.words}" if answer else "",
        *counter_words(hop.node, grown),
    ]
    if "NETFILTER_DROP" in case.dropped(hop) and hop.node in case.holders(hop.after.dst):
        return case.reason(
            "rule",
            hop.node,
            f"{hop.node} got the packet, and a rule of its own dropped it",
            hop,
            evidence,
            f"In {hop.node}: `nft list ruleset`, `iptables-save`; a lab does not trace the rules inside of pods.",
            f"rules of {hop.node}",
        )
    causes, experiment = _left(case, hop)
    what = "the answer" if passage and passage.reply else "the packet"
    return case.reason(
        "unknown",
        hop.node,
        f"{what} {tuple_words(hop.after)} ended in {hop.node} or behind it, and nothing that was seen says why:"
        f" {causes}",
        hop,
        evidence,
        experiment,
        case.chosen(),
        decided=False,
        experiment=experiment,
    )


def _left(case: Case, hop: Hop) -> tuple[str, str]:
    """Which causes are left, and what would tell them apart."""
    if hop.out_interface is not None:
        return (
            "the link lost it, or the next one did not take it in",
            f"`lab.py exec {hop.node} -- ip -s link show {hop.out_interface}` before and after one more: a growing"
            " error or"
            " drop counter means the link, none the next one.",
        )
    if hop.node in case.holders(hop.after.dst):
        return (
            "its receiver's own rules dropped it, or its program does not answer",
            f"`lab.py exec {hop.node} -- nft list ruleset` and `ss -ltn`: rules there are not traced; a full receive"
            " queue"
            " means that the program does not read.",
        )
    return (
        "a rule that is not traced (of later packets none is; tc, ebtables, a bridge's), or a queue",
        f"`lab.py exec {hop.node} -- iptables-save -c`, `nft list ruleset`, `ip -s link` and `tc -s qdisc` there,"
        " before and after one more: whose count has grown took it.",
    )


def _bad(counter: str) -> bool:
    words = ("Err", "Drop", "drop", "Fail", "NoRoute", "Filter", "invalid", "Overflow", "Unreach")
    return any(word in counter for word in words)
