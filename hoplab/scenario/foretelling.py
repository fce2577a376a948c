"""Holds every flow of a run against what the model foretells of it from the rules and routes as they are loaded.

The model is no judge: its word stands beside the evidence, and one check of the run
says whether both agree.  A disagreement means that the kernel did something that the
rules' text doesn't say, that the model is wrong, or that something was not seen.
Rules and routes are read when the first probe leaves, and again after each change.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from hoplab.cluster.cluster import Cluster
from hoplab.cluster.node import PodOnNode
from hoplab.hops.findings import Check, is_masquerade
from hoplab.hops.story import Flow
from hoplab.model.cluster_walk import FlowPrediction, Station, foretell
from hoplab.model.compare import compare
from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Host, Interface, Packet, PolicyRule, Route
from hoplab.model.rules import Ruleset, RulesetError, joined
from hoplab.model.state import Unforeseeable, address_number
from hoplab.net.machines import Machine
from hoplab.net.namespaces import Namespace
from hoplab.probe.result import Probe, ProbeResult
from hoplab.watch.changes import Changes

SHOWN = 3
"""Disagreements that the check tells in full."""
LINES = 80
"""Lines of both paths that its evidence has: a packet in a loop passes sixty hops."""
OWN_TABLES = ("hoplab_watch", "hoplab_probe")
"""Tables of the lab's instruments: they trace, and keep a sender's kernel out of its probes."""
IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
"""Tables that iptables keeps in nf_tables: their text is iptables-save's to tell."""

_Texts = tuple[str, str, str]
"""iptables-save, ip6tables-save, nft, of one namespace."""


@dataclass(slots=True)
class Foreteller:
    """Foretells the flows of one lab and keeps the score."""

    cluster: Cluster
    agreed: int = 0
    disagreements: list[str] = field(default_factory=list)
    unforeseen: dict[str, None] = field(default_factory=dict)
    """Why some flows could not be foretold, each reason once."""
    _changes: Changes = field(default_factory=Changes)
    _known: tuple[str, ...] = ()
    _stale: bool = False
    _readers: dict[str, _Reader] = field(default_factory=dict)
    _hosts: dict[str, Host] = field(default_factory=dict)
    _rulesets: dict[str, Ruleset] = field(default_factory=dict)
    _stations: dict[str, Station] = field(default_factory=dict)
    _parsed: dict[_Texts, Ruleset] = field(default_factory=dict)
    _foretold: dict[tuple[object, ...], tuple[FlowPrediction, ...]] = field(default_factory=dict)

    def look(self) -> None:
        """Have rules and routes read anew if something changed since the last time.  Call it before probes leave."""
        pods = {running.namespace.name: (running, name) for name, running in self._pods()}
        machines = {machine.name: machine for machine in self.cluster.net.hosts}
        watched = [machine.namespace for machine in machines.values()]
        changed = self._changes.found((*watched, *(running.namespace for running, _node in pods.values())))
        if not changed:
            return
        self._known = (*machines, *pods)
        # The programs that print the rules run while the probes do; `compare` reads what they say.
        for name in changed.rules & machines.keys():
            self._readers[name] = _Reader(machines[name].namespace, str(machines[name].params.get("role", "host")))
        try:
            for name in changed.routes & machines.keys():
                self._hosts[name] = _host(machines[name], name in self.cluster.nodes)
            for name in changed.routes & pods.keys():
                self._hosts[name] = _pod_host(*pods[name])
        except ValueError as error:
            self.unforeseen[str(error)] = None
        self._stale = True

    def _refresh(self) -> None:
        """Take over what the last look found."""
        if not self._stale:
            return
        self._stale = False
        self._foretold.clear()
        self._stations.clear()
        readers, self._readers = self._readers, {}
        try:
            self._rulesets |= {name: self._ruleset(reader.texts()) for name, reader in readers.items()}
            self._stations = {n: Station(self._hosts[n], self._rulesets.get(n, _NO_RULES)) for n in self._known}
        except (RulesetError, Unforeseeable, ValueError, KeyError) as error:
            self.unforeseen[str(error)] = None

    def _pods(self) -> Iterator[tuple[str, PodOnNode]]:
        for name, agent in self.cluster.nodes.items():
            for running in agent.pods.values():
                yield name, running

    def compare(self, probes: Sequence[Probe], results: Sequence[ProbeResult], flows: Sequence[Flow]) -> None:
        """Hold these flows, and the connections that proxies opened for them, against what was foretold last."""
        self._refresh()
        if not self._stations:
            return
        forwarders = {machine.name for machine in self.cluster.net.hosts if machine.params.get("forward")}
        for probe, result, flow in zip(probes, results, flows, strict=True):
            self._hold(flow, forwarders, partial(self._of, probe, result, flow))
            for leg in flow.legs:
                # The packets of a connection that was there before follow their conntrack entry, and no rule.
                if not leg.reused:
                    self._hold(leg.flow, forwarders, partial(self._of_leg, leg.flow))

    def compare_made(self, flows: Sequence[Flow]) -> None:
        """Hold flows that a namespace's own programs made against what was foretold at the last look."""
        self._refresh()
        if not self._stations:
            return
        forwarders = {machine.name for machine in self.cluster.net.hosts if machine.params.get("forward")}
        for flow in flows:
            self._hold(flow, forwarders, partial(self._of_leg, flow))

    def _hold(
        self, flow: Flow, forwarders: Collection[str], of: Callable[[], tuple[tuple[FlowPrediction, ...], Flow]]
    ) -> None:
        try:
            foretold, seen = of()
        except (RulesetError, Unforeseeable, ValueError, KeyError) as error:
            self.unforeseen[f"{flow.name}: {error}"] = None
            return
        agreement = compare(self._as_delivered(seen, forwarders), foretold, is_masquerade=is_masquerade)
        if agreement.agrees:
            self.agreed += 1
        else:
            self.disagreements.append(f"{flow.name}: {agreement.text}")

    def check(self) -> Check | None:
        """The run's check; None when no flow could be compared."""
        total = self.agreed + len(self.disagreements)
        if not total:
            return None
        heads = [words.splitlines()[0] for words in self.disagreements]
        observed = "; ".join([f"{self.agreed} of {total} flows as foretold", *heads[:SHOWN]])
        if len(heads) > SHOWN:
            observed += f"; ... and {len(heads) - SHOWN} more"
        # Both paths of the first, side by side: the others mostly have the same reason.
        paths = [line for words in self.disagreements[:1] for line in words.splitlines()[1:] if line]
        if len(paths) > LINES:
            paths = [*paths[:LINES], f"... and {len(paths) - LINES} more lines"]
        expected = "each flow goes a way that the loaded rules and routes allow, as the model reads them"
        return Check("flows as foretold", not self.disagreements, expected, observed, tuple(paths))

    def close(self) -> None:
        """Give the sockets back."""
        self._changes.close()

    # Foretelling

    def _of(self, probe: Probe, result: ProbeResult, flow: Flow) -> tuple[tuple[FlowPrediction, ...], Flow]:
        """The predictions for a probe, and its flow from the namespace on where they begin."""
        sent = result.sent
        packet = Packet(sent.src, None, sent.dst, sent.dport, probe.protocol)
        at, seen = probe.sender, flow
        if probe.next_hop:
            # Handed to a neighbour past the sender's own routing: foretold from that neighbour on.
            at, interface = self._owner(probe.next_hop)
            packet = replace(packet, in_interface=interface)
            seen = replace(flow, forward=flow.forward[1:])
        return self._any_port(at, packet, sent.sport), seen

    def _of_leg(self, flow: Flow) -> tuple[tuple[FlowPrediction, ...], Flow]:
        """The predictions for a connection that a proxy opened, as its first packet was made."""
        if not flow.forward:
            raise ValueError("its first packet was not seen")
        made = flow.forward[0].before
        packet = Packet(made.src, None, made.dst, made.dport, flow.protocol)
        return self._any_port(flow.sender, packet, made.sport), flow

    def _any_port(self, at: str, packet: Packet, sport: int) -> tuple[FlowPrediction, ...]:
        try:
            return self._foretell(at, packet)
        except Unforeseeable:
            # A rule looks at the source port: then each flow is one of its own.
            return self._foretell(at, replace(packet, sport=sport))

    def _foretell(self, at: str, packet: Packet) -> tuple[FlowPrediction, ...]:
        key = (at, packet)
        if key not in self._foretold:
            self._foretold[key] = foretell(self._stations, packet, at)
        return self._foretold[key]

    def _owner(self, address: str) -> tuple[str, str]:
        for name, station in self._stations.items():
            for interface in station.host.interfaces:
                if any(each.partition("/")[0] == address for each in interface.addresses):
                    return name, interface.name
        raise KeyError(f"nobody has {address}")

    def _as_delivered(self, flow: Flow, forwarders: Collection[str]) -> Flow:
        """A flow whose first packet came to its receiver counts as accepted, whatever the receiver did with it.

        Whether a server refuses or stays silent, or its answer is lost on the way back, says nothing of the way there.
        A machine that forwards is the receiver of what goes to its own address and that no rule of it refused.
        """
        last = flow.forward[-1] if flow.forward else None
        if last is None or last.in_interface is None or last.out_interface is not None:
            return flow
        if last.node in forwarders:
            refused = any(hit.verdict.lower().startswith(("drop", "reject")) for hit in last.rules)
            if refused or not last.rules or address_number(last.after.dst) not in self._hosts[last.node].owned:
                return flow
        return replace(flow, outcome="accepted")

    # Reading

    def _ruleset(self, texts: _Texts) -> Ruleset:
        ruleset = self._parsed.get(texts)
        if ruleset is None:
            ipv4, ipv6, nft = texts
            parts = [parse_iptables(ipv4)] if ipv4 else []
            parts += [parse_iptables(ipv6, "ip6")] if ipv6 else []
            parts += [parse_nft(nft)] if nft else []
            ruleset = self._parsed[texts] = joined(*parts) if parts else Ruleset()
        return ruleset


_NO_RULES = Ruleset()


class _Reader:
    """Programs that print a namespace's rules, started together and collected later."""

    def __init__(self, namespace: Namespace, role: str) -> None:
        self._namespace = namespace
        commands = [["iptables-save"]] if role == "node" else []
        commands += [["nft", "list", "ruleset"]] if role in ("node", "balancer") else []
        self._running = {argv[0]: _started(namespace, argv) for argv in commands}

    def texts(self) -> _Texts:
        """The rules' texts, '' for what is not there."""
        done = {name: process.communicate()[0] for name, process in self._running.items()}
        nft = done.get("nft", "")
        ipv6 = ""
        if "iptables-save" in done and "table ip6 nat {" in nft:
            ipv6 = _started(self._namespace, ["ip6tables-save"]).communicate()[0]
        return done.get("iptables-save", ""), ipv6, without_tables(nft)


def without_tables(listing: str) -> str:
    """What `nft list ruleset` prints, without the instruments' tables and those that iptables keeps there (pure)."""
    kept: list[str] = []
    counts = True
    for line in listing.splitlines(keepends=True):
        if line.startswith("table "):
            _table, family, name = line.split()[:3]
            of_iptables = family in ("ip", "ip6") and name in IPTABLES_TABLES
            counts = name not in OWN_TABLES and not of_iptables
        if counts and not line.startswith("#"):
            kept.append(line)
    return "".join(kept)


def _started(namespace: Namespace, argv: list[str]) -> subprocess.Popen[str]:
    return namespace.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _host(machine: Machine, node: bool) -> Host:
    """What the kernel says of a machine, over netlink."""
    links = machine.netlink.links()
    addresses: dict[str, list[str]] = {name: [] for name in links}
    for interface, address, prefix in machine.netlink.addresses(links):
        addresses.setdefault(interface, []).append(f"{address}/{prefix}")
    interfaces = tuple(
        Interface(name, tuple(addresses[name]), bridge=node and link["kind"] == "bridge")
        for name, link in links.items()
    )
    routes = tuple(
        Route(r.destination, r.device, r.via, r.table, r.metric, r.kind, r.source)
        for r in machine.netlink.routes(links)
    )
    marks = tuple(PolicyRule(priority, table, mark) for priority, mark, table in machine.netlink.mark_rules())
    forwards = bool(machine.params.get("forward"))
    return Host(interfaces, routes, forwards, policy_rules=marks, route_localnet=node)


def _pod_host(running: PodOnNode, node: str) -> Host:
    """A pod as its network plugin left it: one interface, a default route, and a bridge of its node behind it."""
    config = running.attachment.config
    bridge = (node, config.bridge) if config.bridge else None
    routes = tuple(
        Route("::/0" if ":" in address else "0.0.0.0/0", "eth0", _gateway(running, address))
        for address in running.result.addresses
        if _gateway(running, address)
    )
    return Host((Interface("eth0", tuple(running.result.addresses), bridged_by=bridge),), routes)


def _gateway(running: PodOnNode, address: str) -> str:
    family = ":" in address
    entries: Iterable[dict[str, str]] = running.result.document.get("ips", ())
    gateways = [entry.get("gateway", "") for entry in entries] or [running.result.gateway]
    return next((each for each in gateways if each and (":" in each) == family), "")
