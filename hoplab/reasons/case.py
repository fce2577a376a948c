"""One failed flow with all that is known of it, and the questions that every cause asks."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hoplab.hops.decisive import Explain, decides, explain_nothing, object_behind
from hoplab.hops.evidence import Frame, Tuple
from hoplab.hops.neighbours import asked_in_vain
from hoplab.hops.packet import Arp, Packet, read_frame
from hoplab.hops.reason import Cause, Reason
from hoplab.hops.story import Flow, Hop, Passage, RuleHit
from hoplab.hops.words import endpoint, frames_words, rule_words, way_words
from hoplab.reasons.facts import Facts, LinkFact, RouteAnswer
from hoplab.reasons.questions import ip_interface, question

INSTRUMENTS = ("hoplab_watch", "hoplab_probe")
"""Tables of the lab itself: they switch tracing on, and keep a kernel from answering in a probe's place."""
DROPPED_WITHIN_NS = 1_000_000
EVERYDAY_DROPS = ("NOT_SPECIFIED", "OTHERHOST", "UNHANDLED_PROTO", "PACKET_SOCK_ERROR")
"""What a bridge that floods and the lab's own sockets cause all the time."""


@dataclass(frozen=True)
class Case:
    """What is known; methods answer questions about it and decide nothing."""

    flow: Flow
    facts: Facts = field(default_factory=Facts)
    frames: Mapping[int, Frame] = field(default_factory=dict)
    arps: Sequence[tuple[Frame, Arp]] = ()
    explain: Explain = explain_nothing

    # The flow

    @cached_property
    def sent(self) -> Tuple:
        """The tuple that the sender addressed."""
        return self.flow.forward[0].before if self.flow.forward else Tuple("", 0, "", 0)

    @cached_property
    def there(self) -> tuple[Passage, ...]:
        """Packets of the sender, without ICMP errors and resets."""
        return tuple(p for p in self.flow.passages if not p.reply and p.label not in ("ICMP-ERROR", "RST"))

    @cached_property
    def back(self) -> tuple[Passage, ...]:
        """Answers, without ICMP errors."""
        return tuple(p for p in self.flow.passages if p.reply and p.label != "ICMP-ERROR")

    @cached_property
    def errors(self) -> tuple[Passage, ...]:
        """ICMP errors about its packets."""
        return tuple(p for p in self.flow.passages if p.label == "ICMP-ERROR")

    def arrived(self, passage: Passage) -> bool:
        """Whether it was seen to come back to the sender."""
        last = passage.hops[-1]
        return last.node == self.flow.sender and last.in_interface is not None

    def role(self, node: str) -> str:
        """client, router, balancer, node, pod, switch or host."""
        return self.facts.roles.get(node, "host")

    def error(self, *kinds: tuple[int, int]) -> tuple[Passage, Packet] | None:
        """An ICMP error of one of these types and codes about the flow, with what it says."""
        for passage in self.errors:
            packet = self.packet(passage.hops[0])
            if packet is not None and packet.kind in kinds:
                return passage, packet
        return None

    # Rules

    def choice(self, until: Hop | None = None) -> tuple[Hop, RuleHit] | None:
        """The last rule on the way there that rewrote the destination (up to a hop)."""
        found = None
        for hop in self.flow.forward:
            found = next(((hop, hit) for hit in hop.rules if decides(hit) == "DNAT"), found)
            if hop is until:
                break
        return found

    def object_of(self, hop: Hop, hit: RuleHit) -> str:
        """The Kubernetes object behind a rule; '' when there is none."""
        return object_behind(hop, hit, self.explain)

    def chosen(self) -> str:
        """The object behind the rewrite of the destination, '' for none."""
        found = self.choice()
        behind = self.object_of(*found) if found else ""
        hop = found[0] if found else None
        pods = [node for node in self.holders(hop.after.dst) if self.role(node) == "pod"] if hop else []
        if hop is None or not behind or behind.startswith("endpoint ") or not pods:
            return behind
        return f"endpoint {endpoint(hop.after.dst, hop.after.dport)} ({self.at_home(pods[0])}) of {behind}"

    def changed_rule(self) -> str:
        """Words for a rewriting rule that does not do what its object says, '' when it does."""
        found = self.choice()
        behind = self.object_of(*found) if found else ""
        if not found or not behind.startswith("endpoint "):
            # Only iptables' chains say which endpoint they stand for.
            return ""
        hop, hit = found
        to = endpoint(hop.after.dst, hop.after.dport)
        stands_for = behind.split()[1]
        if stands_for == to:
            return ""
        return f"the rule of {hit.chain} rewrites to {to}, although the chain stands for {behind}"

    # Facts

    def holders(self, address: str) -> list[str]:
        """Namespaces that have this address."""
        found = [a.node for a in self.facts.addresses if a.address == address and self.role(a.node) != "switch"]
        return list(dict.fromkeys(found))

    def name_of(self, address: str) -> str:
        """'10.1.2.2 (pod/d on node2)'."""
        held = [self.at_home(node) for node in self.holders(address)]
        return f"{address} ({' and '.join(held)})" if held else address

    def at_home(self, node: str) -> str:
        """'pod/d on node2'."""
        host = self.facts.hosts.get(node)
        return f"{node} on {host}" if host else node

    def owner(self, mac: str) -> LinkFact | None:
        """The interface that has this hardware address; of a bridge and its ports the bridge."""
        found = [link for link in self.facts.links if link.mac == mac and self.role(link.node) != "switch"]
        return min(found, key=lambda link: link.kind != "bridge", default=None)

    def link(self, node: str, interface: str) -> LinkFact | None:
        """An interface."""
        return next((one for one in self.facts.links if (one.node, one.name) == (node, interface)), None)

    def grown(self, node: str, *names: str) -> dict[str, int]:
        """Of these counters the ones that grew; a name may end with '*' or begin with it."""
        growth = self.facts.growth.get(node, {})
        return {key: value for key, value in growth.items() if any(_fits(key, name) for name in names)}

    def _held_back(self, hop: Hop) -> str:
        """Why no ICMP error tells of a packet's end: a kernel sends them no faster than icmp_ratelimit allows."""
        name = "Icmp6.OutRateLimitHost" if ":" in hop.after.dst else "Icmp.OutRateLimit*"
        grown = self.grown(hop.node, name) if hop.out_interface is None and not self.errors else {}
        if not grown:
            return ""
        counters = ", ".join(counter_words(hop.node, grown))
        return f"{hop.node} held back ICMP errors, since it had just sent as many as its kernel allows: {counters}"

    def cut_off(self, node: str) -> LinkFact | None:
        """A cable of a namespace (none to one of its own pods) that is down: what was routed by it has no route."""
        mine = (one for one in self.facts.links if one.node == node and one.kind in ("veth", "vxlan"))
        return next((one for one in mine if not one.up and not one.master), None)

    def setting(self, node: str, key: str) -> str:
        """A sysctl's value, '' when it is not known."""
        return self.facts.settings.get((node, key), "")

    def route(self, hop: Hop) -> RouteAnswer | None:
        """What the namespace answers when asked for the packet's route."""
        return self.facts.routes.get(question(hop, self.facts.links))

    def came_to(self, hop: Hop) -> str:
        """The interface that IP saw the packet come in by."""
        return ip_interface(self.facts.links, hop.node, hop.in_interface or "")

    def packet(self, hop: Hop) -> Packet | None:
        """The packet as the hop's first frame shows it."""
        frame = self.frames.get(hop.frames[0]) if hop.frames else None
        return read_frame(frame.data) if frame else None

    def asked_in_vain(self, node: str, since_ns: int, target: str = "") -> tuple[Frame, Arp] | None:
        """An ARP request (for this address) that the namespace sent from then on and that nobody answered."""
        asked = asked_in_vain(self.arps, node, since_ns, target)
        # A bridge's request shows up on every port of it: the bridge is who asks.
        return min(asked, key=lambda one: self._is_port(one[0]), default=None)

    def _is_port(self, frame: Frame) -> bool:
        link = self.link(frame.node, frame.interface)
        return bool(link and link.master)

    @cached_property
    def _times(self) -> list[int]:
        return sorted(frame.time_ns for frame in self.frames.values())

    def dropped(self, hop: Hop) -> list[str]:
        """The kernel's own words for packets that it dropped right behind the hop's last frame."""
        frame = self.frames.get(hop.frames[-1]) if hop.frames else None
        if frame is None:
            return []
        # Whatever is dropped has come by a frame: behind a later one it may be that one's packet.
        following = bisect.bisect_right(self._times, frame.time_ns)
        until = self._times[following] if following < len(self._times) else frame.time_ns + DROPPED_WITHIN_NS
        until = min(until, frame.time_ns + DROPPED_WITHIN_NS)
        near = [d.reason for d in self.facts.drops if frame.time_ns <= d.time_ns < until]
        return [reason for reason in dict.fromkeys(near) if reason not in EVERYDAY_DROPS]

    # Words

    def last_seen(self, hop: Hop) -> tuple[str, str, int]:
        """(words, interface, frame) of the last frame of a hop."""
        number = hop.frames[-1] if hop.frames else 0
        frame = self.frames.get(number)
        interface = frame.interface if frame else hop.out_interface or hop.in_interface or ""
        if not number:
            return f"rule trace in {hop.node}" if hop.rules else f"{hop.node}, which sent no frame of it", interface, 0
        way = "leaving by" if frame and frame.direction == "out" else "coming in by"
        return f"{hop.node}, {way} {interface} (frame {number})", interface, number

    def reason(
        self,
        cause: Cause,
        node: str,
        words: str,
        hop: Hop,
        evidence: Sequence[str],
        next_step: str,
        about: str = "",
        *,
        decided: bool = True,
        experiment: str = "",
    ) -> Reason:
        """A reason whose packet was last seen in this hop."""
        where, interface, frame = self.last_seen(hop)
        own = [f"the kernel's own word for a drop just then: {words}" for words in self.dropped(hop)]
        lines = tuple(dict.fromkeys(line for line in (*evidence, *own, self._held_back(hop)) if line))
        return Reason(
            cause,
            node,
            words,
            about,
            where,
            interface,
            frame,
            tuple(in_family(line, hop.after.dst) for line in lines),
            in_family(next_step, hop.after.dst),
            decided,
            in_family(experiment, hop.after.dst),
        )


_OF_IPV6 = (
    ("`ip route", "`ip -6 route"),
    ("`iptables", "`ip6tables"),
    ("ICMP fragmentation needed", "ICMP packet too big"),
)


def in_family(text: str, address: str) -> str:
    """Commands and words as they are for the family of an address: IPv6 has tools and errors of its own."""
    for four, six in _OF_IPV6 if ":" in address else ():
        text = text.replace(four, six)
    return text


def _fits(key: str, name: str) -> bool:
    if name.startswith("*"):
        return key.endswith(name[1:])
    if name.endswith("*"):
        return key.startswith(name[:-1])
    return key == name


def hop_words(hop: Hop) -> str:
    """'node1 eth0 -> veth1: frames 3, 4'."""
    return f"{way_words(hop)}: {frames_words(hop.frames)}"


def hit_words(hop: Hop, hit: RuleHit) -> str:
    """A rule's line of evidence."""
    comment = f" ({hit.comment})" if hit.comment and hit.comment not in hit.rule else ""
    return f"rule trace in {hop.node}: {rule_words(hit)}{comment}"


def counter_words(node: str, grown: Mapping[str, int]) -> list[str]:
    """Lines of evidence for counters that grew."""
    return [f"counter {name} of {node} grew by {value}" for name, value in grown.items()]
