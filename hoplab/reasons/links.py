"""Causes that lie on a link: nobody answers there, the wrong one does, it is down, full, or too narrow.

A neighbour's state and unanswered ARP requests tell of the first, counters of queues and
of fragments that failed of the others.  Sources: Linux' net/ipv4/arp.c, ip_forward.c
(FragFails and ICMP fragmentation needed), net/sched.
"""

from __future__ import annotations

from collections.abc import Iterator

from hoplab.hops.reason import Reason
from hoplab.hops.story import Hop, Passage
from hoplab.hops.words import endpoint, icmp_words, tuple_words
from hoplab.reasons.answers import error_packet
from hoplab.reasons.case import Case, counter_words, hit_words, hop_words
from hoplab.reasons.facts import LinkFact
from hoplab.reasons.questions import question, way_back


def no_neighbour(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """The next one on the link was asked for by ARP and did not answer."""
    unreachable = case.error((1, 3) if ":" in hop.before.src else (3, 1))
    delivered = hop.node in case.holders(hop.after.dst)
    answer = case.facts.routes.get(way_back(hop)) if delivered else case.route(hop)
    wanted = hop.before.src if delivered else hop.after.dst
    wanted_next = (answer.via if answer else "") or wanted
    asked = case.asked_in_vain(hop.node, hop.time_ns, wanted_next if answer else "")
    failed = [
        n
        for n in case.facts.neighbours
        if n.node == hop.node
        and n.state in ("FAILED", "INCOMPLETE")
        and n.address == (asked[1].target if asked else wanted_next)
    ]
    if asked is None and not failed:
        return None
    target = asked[1].target if asked else failed[0].address
    interface = asked[0].interface if asked else failed[0].interface
    evidence = [hop_words(hop) if hop.frames or hop.rules else case.flow.reason]
    if asked:
        evidence.append(f"{hop.node} asked for {target} by ARP on {interface} (frame {asked[0].number}), no answer")
    evidence += [f"neighbour {n.address} on {n.interface} of {hop.node} is {n.state}" for n in failed]
    evidence.append(f"{icmp_words(unreachable[1])} came" if unreachable else "")
    evidence.append("" if case.holders(target) else f"no interface of the lab has {target}")
    down = next((link for link in _links_with(case, target) if not link.up), None)
    if down is not None:
        return _down(case, hop, down, evidence)
    routers = [node for node in case.holders(target) if case.role(node) in ("node", "router", "balancer")]
    if target != wanted and not routers:
        return _gateway(case, hop, target, wanted, evidence)
    changed = case.changed_rule()
    choice = case.chosen()
    about = choice or target
    if choice and not choice.startswith("endpoint "):
        about = f"endpoint {endpoint(hop.after.dst, hop.after.dport)} of {choice}"
    step = (
        _who_is(target)
        if not case.holders(target)
        else f"{case.name_of(target)}: is its interface up, on this link, with this address?"
    )
    return case.reason(
        "no-arp-answer",
        hop.node,
        f"{hop.node} found nobody who has {target} on {interface}",
        hop,
        [*evidence, changed],
        step,
        about,
    )


def _who_is(address: str) -> str:
    return (
        f"Who is {address}? If it was a pod that is gone, its endpoint has to go: `lab.py kubectl get endpointslices`."
    )


def _gateway(case: Case, hop: Hop, target: str, wanted: str, evidence: list[str]) -> Reason:
    """The neighbour that is missing is a gateway."""
    delivered = hop.node in case.holders(hop.after.dst)
    answer = case.facts.routes.get(way_back(hop) if delivered else question(hop, case.facts.links))
    route = f"route to {wanted} in {hop.node}: {answer.words}" if answer else ""
    return case.reason(
        "wrong-gateway",
        hop.node,
        f"{hop.node} sends what is for {wanted} to the gateway {target}, and nobody has that address there",
        hop,
        [*evidence, route],
        f"In {hop.node}: `ip route`; is there a second default route, or one with a wrong gateway?",
        f"gateway {target}",
    )


def wrong_gateway(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """It came to somebody who is neither its destination nor a router: the one before took that for the gateway."""
    if len(passage.hops) < 2 or case.setting(hop.node, "net.ipv4.ip_forward") == "1":
        return None
    sender = next((h for h in reversed(passage.hops[:-1]) if h.ttl_out == hop.ttl_in and not _bridges(h)), None)
    if sender is None:
        return None
    return case.reason(
        "wrong-gateway",
        sender.node,
        f"{sender.node} took {case.at_home(hop.node)} for its gateway: what is for {hop.after.dst} was sent there, and"
        f" {hop.node} forwards nothing",
        hop,
        [f"{hop_words(hop)}, for {tuple_words(hop.after)}", _mac_words(sender)],
        f"In {sender.node}: `ip route`; is there a second default route, or one with a wrong gateway?",
        f"gateway in {case.at_home(hop.node)}",
    )


def _bridges(hop: Hop) -> bool:
    return hop.in_interface is not None and hop.ttl_in == hop.ttl_out


def _mac_words(hop: Hop) -> str:
    return f"{hop.node} sent the frame to {hop.mac_out[1]}" if hop.mac_out else ""


def wrong_neighbour(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """The frame was sent to a hardware address that nobody has: an old or a wrong entry of the neighbour table."""
    mac = hop.mac_out[1] if hop.mac_out else ""
    # The lowest bit of the first octet is set for groups and for everybody.
    if not mac or int(mac[:2], 16) & 1 or not case.facts.links or case.owner(mac) is not None:
        return None
    entries = [n for n in case.facts.neighbours if n.node == hop.node and n.mac == mac]
    to = entries[0].address if entries else hop.after.dst
    return case.reason(
        "wrong-neighbour",
        hop.node,
        f"{hop.node} sent it to the hardware address {mac}, which nobody has: its neighbour table is wrong about {to}",
        hop,
        [
            _mac_words(hop),
            *(f"neighbour {n.address} on {n.interface} of {hop.node} is at {n.mac} ({n.state})" for n in entries),
            *(f"{link.node} has {to} on {link.name}, hardware address {link.mac}" for link in _links_with(case, to)),
        ],
        f"In {hop.node}: `ip neighbour`; `ip neighbour del {to} dev {hop.out_interface}` has it ask again.",
        f"neighbour {to}",
    )


def passed_on_in_vain(case: Case) -> Reason | None:
    """Its receiver took a request and wanted to pass it on, to somebody who does not answer for his address."""
    last = case.flow.forward[-1] if case.flow.forward else None
    connected = any(case.arrived(p) for p in case.back)
    if last is None or not connected or last.out_interface is not None or case.flow.legs:
        return None
    asked = case.asked_in_vain(last.node, last.time_ns)
    if asked is None or asked[1].target == last.before.src:
        return None
    frame, arp = asked
    evidence = [
        f"the connection was taken: {hop_words(last)}",
        f"{last.node} then asked for {arp.target} by ARP on {frame.interface} (frame {frame.number}), no answer",
        "" if case.holders(arp.target) else f"no interface of the lab has {arp.target}",
    ]
    down = next((link for link in _links_with(case, arp.target) if not link.up), None)
    if down is not None:
        return _down(case, last, down, evidence)
    return case.reason(
        "no-arp-answer",
        last.node,
        f"{last.node} took the request, and found nobody who has {arp.target} on {frame.interface} to pass it on to",
        last,
        evidence,
        _who_is(arp.target),
        case.name_of(arp.target),
    )


def unplugged(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """The interface that it had to take, or the one at the other end, is down."""
    link = next((link for link in _interfaces_ahead(case, hop) if not link.up), None)
    return _down(case, hop, link, [hop_words(hop), _mac_words(hop)]) if link else None


def gone_with_its_link(case: Case, hop: Hop, evidence: list[str]) -> Reason | None:
    """No route at all, not even a default one, and a cable is down: the kernel takes a link's routes with it."""
    link = case.cut_off(hop.node)
    return _down(case, hop, link, evidence) if link is not None else None


def _down(case: Case, hop: Hop, link: LinkFact, evidence: list[str]) -> Reason:
    return case.reason(
        "link-down",
        link.node,
        f"{link.node}'s interface {link.name} is down: what {hop.node} sends there arrives nowhere",
        hop,
        [*evidence, f"interface {link.name} of {link.node} is down, at this end or at the other"],
        f"On {link.node}: `ip link set {link.name} up`, and look at the other end; routes that went with it have to"
        " be set"
        " again.",
        f"interface {link.name} of {link.node}",
    )


def _links_with(case: Case, address: str) -> Iterator[LinkFact]:
    """The interfaces that have this address."""
    for one in case.facts.addresses:
        if one.address == address and (link := case.link(one.node, one.interface)):
            yield link


def _interfaces_ahead(case: Case, hop: Hop) -> Iterator[LinkFact]:
    answer = case.route(hop)
    if answer and (link := case.link(hop.node, answer.device)):
        yield link
    if hop.mac_out and (link := case.owner(hop.mac_out[1])):
        yield link
    for node in case.holders(hop.after.dst):
        yield from (link for link in case.facts.links if link.node == node and link.name != "lo")


def queue_full(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """An interface or its queue dropped packets."""
    next_one = case.owner(hop.mac_out[1]) if hop.mac_out else None
    for node in dict.fromkeys((hop.node, *([next_one.node] if next_one else ()))):
        grown = case.grown(node, "*.queue_drop", "*.tx_drop")
        if grown:
            name = min(grown, key=lambda one: not one.endswith("queue_drop")).rpartition(".")[0]
            return case.reason(
                "queue-full",
                node,
                f"the queue of {node}'s interface {name} dropped packets",
                hop,
                [hop_words(hop), *counter_words(node, grown)],
                f"On {node}: `tc -s qdisc show dev {name}`; is it shaped, or too slow for what is sent?",
                f"interface {name} of {node}",
            )
    return None


def too_large(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """A segment that may not be cut and does not fit where it has to go, with or without the ICMP error."""
    packet = case.packet(hop)
    if packet is None or not packet.dont_fragment:
        return None
    answer = case.route(hop)
    device = case.link(hop.node, answer.device) if answer else None
    grown = case.grown(hop.node, "Ip.FragFails")
    too_big = device is not None and packet.length > device.mtu
    if not too_big and not grown:
        return None
    mtu, name = (device.mtu, device.name) if device is not None else (0, "the next interface")
    made = [p for p in case.errors if (found := case.packet(p.hops[0])) is None or found.mtu]
    told = error_packet(case)
    came = told is not None and told[1].mtu > 0
    repeated = [p for p in case.flow.passages if p.reply == passage.reply and p.retransmission]
    taken = next(((p, h, hit) for p in made for h in p.hops for hit in h.rules if hit.verdict.lower() == "drop"), None)
    if came:
        said = f"; {hop.node} told the sender so" if told else ""
    else:
        said = "; the ICMP error that says so did not reach the sender"
    evidence = [
        f"{packet.length} bytes, don't fragment: {hop_words(hop)}",
        f"MTU of {name} on {hop.node} is {mtu}" if mtu else "",
        *counter_words(hop.node, case.grown(hop.node, "Ip.FragFails", "Icmp.OutDestUnreachs")),
        f"sent again {len(repeated)} times" if repeated else "",
        "" if came else "no ICMP fragmentation needed came to the sender",
    ]
    if taken is not None:
        evidence.append(f"the ICMP error was dropped: {hit_words(taken[1], taken[2])}")
    return case.reason(
        "mtu",
        hop.node,
        f"a packet of {packet.length} bytes that may not be fragmented does not fit into {name} (MTU {mtu}){said}",
        hop,
        evidence,
        f"Give pods the MTU of the way ({mtu}; CNI's `mtu`), and let ICMP fragmentation needed pass."
        + (f" Remove the rule in {taken[1].node}." if taken else ""),
        f"interface {name} of {hop.node}" if device else "",
    )
