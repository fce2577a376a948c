"""Causes that show in where a packet ended: no route, no neighbour, forwarding off, too large, too old, no way out.

A packet that came into a namespace, met no rule that took it and did not leave has been
ended by the kernel's own routing.  Each check there has a counter, an ICMP error or a
neighbour's state of its own.  Sources: Linux' net/ipv4/route.c, ip_forward.c,
ip_output.c, arp.c, net/bridge/br_forward.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hoplab.hops.reason import Reason
from hoplab.hops.story import Hop, Passage
from hoplab.hops.words import endpoint, icmp_words, tuple_words
from hoplab.reasons.answers import error_packet
from hoplab.reasons.case import Case, counter_words, hop_words
from hoplab.reasons.facts import RouteAnswer
from hoplab.reasons.links import (
    gone_with_its_link,
    no_neighbour,
    queue_full,
    too_large,
    unplugged,
    wrong_gateway,
    wrong_neighbour,
)
from hoplab.reasons.questions import headed, way_back

TELLS_THE_SENDER = ("ENETUNREACH", "EHOSTUNREACH", "EACCES")
"""Look-ups without a way of which a kernel tells the sender by ICMP (net/ipv4/route.c, ip_error)."""


def lost_packet(case: Case) -> Passage | None:
    """The packet whose end decided: the first answer that did not come back, or the furthest of what was sent."""
    if not case.back:
        return max(case.there, key=lambda p: len(p.hops), default=None)
    receiver = case.back[0].hops[0].node
    if any(case.arrived(p) for p in case.back):
        data = [p for p in case.there if p.label.startswith("DATA") and p.hops[-1].node != receiver]
        if data:
            return data[0]
    missing = [p for p in case.back if not case.arrived(p) and p.label != "RST"]
    return missing[0] if missing else None


def ended(case: Case) -> Reason | None:
    """What ended it, told by the place where it was last seen."""
    passage = lost_packet(case)
    if passage is None:
        return None
    hop = headed(passage.hops[-1])
    passage = replace(passage, hops=(*passage.hops[:-1], hop))
    checks: tuple[Callable[[Case, Passage, Hop], Reason | None], ...]
    if hop.out_interface is not None:
        checks = (hairpin_off, no_neighbour, missing_route, unplugged, too_large, queue_full, wrong_neighbour)
    elif hop.node in case.holders(hop.after.dst):
        checks = (from_itself, no_way_back, no_neighbour, backlog_full, queue_full)
    elif case.role(hop.node) in ("pod", "client", "host"):
        checks = (not_rewritten, wrong_gateway, no_neighbour)
    else:
        checks = (
            hairpin_off,
            too_old,
            too_large,
            no_neighbour,
            reverse_path,
            forwarding_off,
            missing_route,
            conntrack_full,
            unplugged,
            queue_full,
        )
    return next((found for check in checks if (found := check(case, passage, hop)) is not None), None)


def hairpin_off(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """It was to leave by the bridge port that it came in by, and the port is not in hairpin mode."""
    port = case.link(hop.node, hop.in_interface or "")
    if port is None or not port.master or port.hairpin is not False:
        return None
    holders = case.holders(hop.after.dst)
    origin = passage.hops[-2].node if len(passage.hops) > 1 else ""
    if origin not in holders or hop.out_interface not in (None, port.master):
        return None
    return case.reason(
        "hairpin-off",
        hop.node,
        f"{hop.node} rewrote the destination to the pod that had sent the packet ({case.name_of(hop.after.dst)}), and"
        " its"
        f" bridge {port.master} sends nothing out of the port {port.name} that it came in by",
        hop,
        [
            f"came in by {port.name}, destination became {endpoint(hop.after.dst, hop.after.dport)}: {hop_words(hop)}",
            f"hairpin mode of port {port.name} of {port.master} is off",
            f"no frame of it left by {port.name}",
        ],
        f"On {hop.node}: `bridge link set dev {port.name} hairpin on`; CNI's bridge plugin: `hairpinMode: true`.",
        case.chosen() or origin,
    )


def from_itself(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """A pod got a packet that seems to come from itself."""
    if hop.before.src != hop.before.dst:
        return None
    node = case.flow.forward[-2].node if len(case.flow.forward) > 1 else hop.node
    grown = case.grown(hop.node, "TcpExt.IPReversePathFilter", "Ip.InAddrErrors", "IpExt.InNoRoutes")
    return case.reason(
        "hairpin-not-masqueraded",
        node,
        f"{hop.node} was sent a packet from its own address {hop.before.src}: {node} rewrote only the destination",
        hop,
        [f"came in as {tuple_words(hop.before)}: {hop_words(hop)}", *counter_words(hop.node, grown)],
        f"On {node}: the endpoint's chain has to mark what its own pod sends for masquerade (`-s {hop.before.src} -j"
        " KUBE-MARK-MASQ`).",
        case.chosen(),
    )


def too_old(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """Its TTL was used up."""
    exceeded = case.error((3, 0) if ":" in hop.before.src else (11, 0))
    if (hop.ttl_in or 99) > 1 and exceeded is None:
        return None
    nodes = [one.node for one in passage.hops]
    again = sorted({node for node in nodes if nodes.count(node) > 1})
    loop = f"; it went round between {' and '.join(again)}" if again else ""
    there = exceeded[0].hops[0].node if exceeded else hop.node
    where = " and ".join(again) or there
    return case.reason(
        "ttl",
        where,
        f"its TTL was used up in {there} after {len(nodes) - 1} hops{loop}",
        hop,
        [
            f"came in with TTL {hop.ttl_in}: {hop_words(hop)}",
            icmp_words(exceeded[1]) if exceeded else "",
            *counter_words(there, case.grown(there, "Ip.InHdrErrors", "Icmp.OutTimeExcds")),
        ],
        f"On {' and '.join(again)}: `ip route get {hop.after.dst}`; two routes point at each other."
        if again
        else "Send it with a larger TTL.",
        f"route to {hop.after.dst}" if again else "",
    )


def no_way_back(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """It was delivered, and its receiver has no route for the answer."""
    if case.back:
        return None
    answer = case.facts.routes.get(way_back(hop))
    if answer is None or not answer.error:
        return None
    grown = case.grown(hop.node, "Ip.OutNoRoutes", "IpExt.OutNoRoutes")
    return case.reason(
        "no-route",
        hop.node,
        f"{hop.node} got the packet and has no route for the answer to {hop.before.src}",
        hop,
        [
            f"delivered: {hop_words(hop)}",
            f"route to {hop.before.src} in {hop.node}: {answer.words}",
            *counter_words(hop.node, grown),
        ],
        f"In {hop.node}: `ip route add default via ITS-NODE'S-BRIDGE`; what did the CNI plugin set?",
        case.chosen(),
    )


def backlog_full(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """It was delivered, and its receiver's queue of new connections was full."""
    grown = case.grown(hop.node, "TcpExt.ListenOverflows", "TcpExt.ListenDrops")
    if not grown or case.back:
        return None
    return case.reason(
        "queue-full",
        hop.node,
        f"{hop.node} dropped the opening of a connection: the queue of its listening socket is full",
        hop,
        [f"delivered: {hop_words(hop)}", *counter_words(hop.node, grown)],
        f"In {hop.node}: `ss -ltn` shows the queue; does the program accept its connections?",
        case.chosen(),
    )


def reverse_path(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """The reverse path filter took it: the way back to its source leads through another interface."""
    grown = case.grown(hop.node, "TcpExt.IPReversePathFilter")
    if not grown:
        return None
    answer = case.route(hop)
    interface = case.came_to(hop)
    settings = {k: case.setting(hop.node, f"net.ipv4.conf.{k}.rp_filter") for k in ("all", interface)}
    return case.reason(
        "reverse-path",
        hop.node,
        f"the reverse path filter of {hop.node} dropped it: what is for {hop.before.src} would not leave by"
        f" {interface},"
        " where it came in",
        hop,
        [
            hop_words(hop),
            *counter_words(hop.node, grown),
            f"route to {hop.after.dst} from {hop.before.src} iif {interface}: {answer.words}" if answer else "",
            *(f"net.ipv4.conf.{key}.rp_filter of {hop.node} is {value}" for key, value in settings.items() if value),
        ],
        f"On {hop.node}: `ip route get {hop.before.src}`: repair that route, or `sysctl -w net.ipv4.conf.{interface}"
        ".rp_filter=2` (loose) if the ways shall differ.",
        f"net.ipv4.conf.{interface}.rp_filter",
    )


def forwarding_off(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """The namespace is no router at the moment."""
    six = ":" in hop.after.dst
    key, errors, passed_on = (
        ("net.ipv6.conf.all.forwarding", "Ip6.InAddrErrors", "Ip6.OutForwDatagrams")
        if six
        else ("net.ipv4.ip_forward", "Ip.InAddrErrors", "Ip.ForwDatagrams")
    )
    off = case.setting(hop.node, key) == "0"
    grown, forwarded = case.grown(hop.node, errors), case.grown(hop.node, passed_on)
    if not off or (not grown and forwarded):
        return None
    what = "the answer" if passage.reply else "the packet"
    return case.reason(
        "forwarding-off",
        hop.node,
        f"{hop.node} does not forward: {what} came in by {hop.in_interface} for"
        f" {endpoint(hop.after.dst, hop.after.dport)}"
        " and is not its own",
        hop,
        [
            hop_words(hop),
            *counter_words(hop.node, grown),
            "" if forwarded else f"counter {passed_on} of {hop.node} did not grow",
            f"{key} of {hop.node} is 0",
        ],
        f"On {hop.node}: `sysctl -w {key}=1`.",
        key,
    )


def missing_route(case: Case, passage: Passage, hop: Hop) -> Reason | None:
    """A namespace had no route, or only the default one for what is a pod's address."""
    for one in passage.hops:
        homes = [n for n in case.holders(one.after.dst) if case.role(n) == "pod"]
        answer = case.route(one)
        reached = any(h.node in homes or h.node in {case.facts.hosts.get(n) for n in homes} for h in passage.hops)
        if not homes or reached or answer is None or case.role(one.node) != "node":
            continue
        if answer.is_default or answer.error in ("ENETUNREACH", "EHOSTUNREACH"):
            lookup = f"route to {one.after.dst} in {one.node}: {answer.words}"
            gone = gone_with_its_link(case, one, [hop_words(one), lookup]) if answer.error else None
            if gone is not None:
                return gone
            told = error_packet(case)
            after = passage.hops[passage.hops.index(one) + 1 :]
            return case.reason(
                "no-route",
                one.node,
                f"{one.node} has no route to {case.name_of(one.after.dst)}: it knows only {answer.words}",
                hop,
                [
                    hop_words(one),
                    lookup,
                    f"it went to {' and '.join(h.node for h in after)} instead" if after else "",
                    icmp_words(told[1]) if told else _untold(case, hop),
                ],
                f"On {one.node}: `ip route`; the pod subnet of {case.facts.hosts.get(homes[0], 'its node')} needs a"
                " route"
                " (fabric routes: via that node; VXLAN: via flannel.1).",
                case.chosen() or case.name_of(one.after.dst),
            )
    answer = case.route(hop)
    if hop.out_interface is None and answer is not None and _refused(case, hop, answer):
        return _unroutable(case, passage, hop, answer)
    return None


def _refused(case: Case, hop: Hop, answer: RouteAnswer) -> bool:
    """Whether the look-up says that no route leads on: none, or one that is there to refuse."""
    # A source that can't be one is refused in the same words: one of the node's own, coming in from outside.
    own_source = hop.node in case.holders(hop.before.src)
    return answer.error in TELLS_THE_SENDER or (answer.error == "EINVAL" and not own_source)


def _untold(case: Case, hop: Hop) -> str:
    """Why nobody was told of a packet without a route (ip_error: burst 5, then one a second; nothing counts them)."""
    answer = case.route(hop)
    tells = answer is not None and answer.error in TELLS_THE_SENDER
    if not tells or case.errors or hop.out_interface is not None or ":" in hop.after.dst:
        return ""
    return (
        f"no ICMP error about it left {hop.node}: of what it has no way for, a kernel tells one sender of some five"
        " packets at once, and then of one a second"
    )


def _unroutable(case: Case, passage: Passage, hop: Hop, answer: RouteAnswer) -> Reason:
    told = error_packet(case)
    evidence = [
        hop_words(hop),
        f"route to {hop.after.dst} in {hop.node}: {answer.words}",
        icmp_words(told[1]) if told else _untold(case, hop),
        *counter_words(hop.node, case.grown(hop.node, "IpExt.InNoRoutes", "Icmp.OutDestUnreachs")),
    ]
    if (unchanged := not_rewritten(case, passage, hop, evidence)) is not None:
        return unchanged
    if (gone := gone_with_its_link(case, hop, evidence)) is not None:
        return gone
    to = case.name_of(hop.after.dst)
    words = {
        "EACCES": f"a route of {hop.node} prohibits what is for {to}",
        "EINVAL": f"a route of {hop.node} swallows what is for {to} without a word (type blackhole)",
    }.get(answer.error, f"{hop.node} has no route to {to}")
    return case.reason(
        "no-route",
        hop.node,
        words,
        hop,
        evidence,
        f"On {hop.node}: `ip route get {hop.after.dst}`.",
        case.chosen() or hop.after.dst,
    )


def not_rewritten(case: Case, passage: Passage, hop: Hop, evidence: Sequence[str] = ()) -> Reason | None:
    """It was for an address that nobody has, and no rule on its way made another one of it."""
    if hop.after.dst != case.sent.dst or passage.reply or case.holders(hop.after.dst):
        return None
    # A Service's address is rewritten by the first node that it meets, a balancer's by the balancer.
    deciders = [h for role in ("node", "balancer") for h in passage.hops if case.role(h.node) == role]
    if not deciders:
        return None
    where = deciders[0]
    return case.reason(
        "not-rewritten",
        where.node,
        f"no rule of {where.node} took {endpoint(case.sent.dst, case.sent.dport)}, an address that nobody has: it was"
        f" routed on as it was, to {hop.node}",
        hop,
        [*evidence, f"rule trace in {where.node}: {len(where.rules)} rules met, none rewrote", hop_words(where)],
        f"On {where.node}: are its rules loaded (`iptables-save -t nat`, `nft list ruleset`), and is there a Service"
        " with this address and port?",
        endpoint(case.sent.dst, case.sent.dport),
    )


def conntrack_full(case: Case, _passage: Passage, hop: Hop) -> Reason | None:
    """The table of connections was full."""
    grown = case.grown(hop.node, "conntrack.drop", "conntrack.early_drop")
    if "conntrack.drop" not in grown:
        return None
    count, most = (case.setting(hop.node, f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max"))
    return case.reason(
        "conntrack-full",
        hop.node,
        f"connection tracking of {hop.node} is full and dropped what would have been a new entry",
        hop,
        [hop_words(hop), *counter_words(hop.node, grown), f"{count} entries of at most {most}" if count else ""],
        f"On {hop.node}: `conntrack -S`, `sysctl net.netfilter.nf_conntrack_max`; who holds so many connections?",
        "net.netfilter.nf_conntrack_max",
    )
