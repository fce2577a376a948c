"""Runs a check file in a lab: looks its names up, sends what it takes to be sure, and has every flow judged.

A flow that somebody must answer is sent several times (one full exchange, then openings
alone), because one probe would see only one of the endpoints that rules may choose.
The flows between two changes are sent together: their order in the file stays.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hoplab.checks import spread
from hoplab.checks.judge import endpoints, judge, seen_all, uneven
from hoplab.checks.names import Names
from hoplab.checks.spec import CheckFile, FlowSpec, Key, Step
from hoplab.cluster.applying import apply
from hoplab.cluster.node import NodeAgent
from hoplab.cluster.standins import STAND_IN, pod_object
from hoplab.errors import InputError
from hoplab.hops.findings import Check
from hoplab.hops.story import Flow
from hoplab.hops.verdict import expect_hops
from hoplab.kube import convert
from hoplab.kube.types import Container, ObjectMeta, Origin, Pod
from hoplab.net.zygote import Zygote
from hoplab.probe.crafter import Crafter
from hoplab.probe.result import Probe
from hoplab.scenario.acting import Finished
from hoplab.scenario.lab import Lab
from hoplab.scenario.notes import Note, silent
from hoplab.scenario.runner import in_cluster

ANSWERED = 8
"""Probes for a flow that somebody must answer: one that must not, with half the share, stays unseen 1 time in 256."""
TOGETHER = 128
"""Probes of one round: their evidence is joined at once."""
TRIES_PER_NODE = 16
"""Probes, for each node, until a balancer is seen to choose the expected one."""
NOT_WAITING_S = 0.4
"""Deadline of probes that nobody shall answer: what proves them is a rule trace, not the silence."""


def run(
    file: CheckFile,
    captures: Path,
    zygote: Zygote,
    crafter: Crafter,
    sabotage: Callable[[Lab], None] | None = None,
    note: Note = silent,
) -> Finished:
    """Run a check file in this sandbox.  Raises as `hoplab.scenario.runner.run`."""

    def play(lab: Lab) -> None:
        _Run(file, lab).play()

    wanted = frozenset(str(ipaddress.ip_address(address)) for address in wanted_addresses(file) if address)
    options = replace(file.options, reserved=wanted)
    return in_cluster("check", file.name, options, file.loaded, captures, play, zygote, crafter, sabotage, note)


def wanted_addresses(file: CheckFile) -> Iterator[str]:
    """Addresses that pods, senders and Services of this file will have, from its first flow to its last; '' for any.

    Pure.
    """
    for each in (*file.loaded.objects, *(obj for step in file.steps for obj in step.apply)):
        if each.kind in ("EndpointSlice", "Endpoints"):
            for piece in convert.as_endpoint_slices(each):
                if piece.address_type == "FQDN":
                    continue
                yield from (address for endpoint in piece.endpoints for address in endpoint.addresses)
        elif each.kind == "Pod":
            yield convert.as_pod(each).requested_ip
        elif each.kind in convert.WORKLOADS:
            yield convert.as_workload(each).template.requested_ip
        elif each.kind == "Service":
            service = convert.as_service(each)
            yield from (*service.external_ips, *(ingress.ip for ingress in service.load_balancer_ingress))
    yield from (flow.source.address for flow in file.flows if flow.source.name not in ("router", "lb"))


@dataclass(slots=True)
class _Sending:
    """A flow with what its names stand for, and the flows of the probes that were sent for it."""

    spec: FlowSpec
    probe: Probe
    hops: tuple[str, ...]
    choice: bool
    flows: list[Flow] = field(default_factory=list)
    sample: int = 0
    """Where the probes begin that the spread is judged by."""

    def probes(self, count: int) -> list[Probe]:
        """The next ones: the very first is a whole exchange, the others only open (and have a name of their own)."""
        sent = len(self.flows)
        return [
            replace(self.probe, name=f"{self.spec.name} #{n + 1}" if n else self.spec.name, half_open=n > 0)
            for n in range(sent, sent + count)
        ]


class _Run:
    def __init__(self, file: CheckFile, lab: Lab) -> None:
        self._file, self._lab, self._names = file, lab, Names(lab)
        self._objects = {each.key: each for each in file.loaded.objects}
        self._senders: dict[tuple[str, str], str] = {}

    def play(self) -> None:
        self._make_senders(self._file.flows)
        for step in self._file.steps:
            if step.apply or step.delete:
                self._change(step)
            self._route_vips()
            self._send_all(step.flows)

    # Changes

    def _change(self, step: Step) -> None:
        """Bring the cluster to the objects at the end of this step's changes."""
        cluster = self._lab.cluster
        for key in (*step.delete, *(Key(*each.key) for each in step.apply)):
            self._objects.pop((key.kind, key.namespace, key.name), None)
        cluster.delete([(key.kind, key.namespace, key.name) for key in step.delete])
        apply(cluster, step.apply)
        self._objects |= {each.key: each for each in step.apply}
        self._lab.converge()

    # Names

    def _make_senders(self, flows: Sequence[FlowSpec]) -> None:
        """Pods that send from addresses behind nodes, and ways to what is borrowed elsewhere."""
        lab, pods = self._lab, []
        self._ways_in(flows)
        for spec in flows:
            address, behind = spec.source.address, spec.source.name
            if not address or (address, behind) in self._senders:
                continue
            agent = lab.cluster.nodes.get(behind)
            if agent is None:
                self._names.named(spec, "from", behind)
            owner = self._names.owners().get(address, "")
            if owner and owner != behind and not (agent and owner in {r.namespace.name for r in agent.pods.values()}):
                raise InputError(f"{spec.place}: {spec.name}: from: {address} can't be borrowed: {owner} has it")
            if ipaddress.ip_address(address).is_loopback:
                # Whoever it is asked of has it already, and no way back leads to it from elsewhere.
                self._senders[address, behind] = behind
            elif agent is None:
                self._senders[address, behind] = behind
                self._route_back(spec, address)
            elif address in (*agent.node.addresses, *agent.node.extra_addresses):
                self._senders[address, behind] = behind
            elif running := next((r for r in agent.pods.values() if address in r.ips), None):
                self._senders[address, behind] = running.namespace.name
            else:
                pod = _sender_pod(address, agent, Origin(spec.place.file, spec.place.line))
                pods.append(pod)
                self._senders[address, behind] = f"pod/{pod.meta.name}"
        if pods:
            lab.cluster.apply([pod_object(pod) for pod in pods])
            lab.converge()

    def _ways_in(self, flows: Sequence[FlowSpec]) -> None:
        """Answers leave by the node that a client's packets enter by, where a client always enters by the same one."""
        cluster = self._lab.cluster
        ways: dict[str, set[str]] = {}
        for spec in flows:
            if spec.source.name == "client":
                ways.setdefault(spec.source.address, set()).add(spec.via)
        for address, nodes in ways.items():
            agent = cluster.nodes.get(next(iter(nodes)))
            if len(nodes) == 1 and agent is not None:
                own = str(cluster.net["client"].params["ip"]).partition("/")[0]
                cluster.reach.by_way_in(address or own, agent)

    def _route_back(self, spec: FlowSpec, address: str) -> None:
        """Have answers to an address that lies behind the client or a pod find their way."""
        lab, behind = self._lab, spec.source.name
        if behind.startswith("pod/"):
            pod = self._names.named(spec, "from", behind)
            agent = next(a for a in lab.cluster.nodes.values() if any(r.namespace.name == pod for r in a.pods.values()))
            via = next(r.ips[0] for r in agent.pods.values() if r.namespace.name == pod)
            agent.machine.netlink.route(f"{address}/{_bits(address)}", via=via)
            lab.cluster.reach.by_node(address, agent)
        elif behind == "client" and not self._found_on_link(behind, address):
            lab.cluster.reach.by_client(address)

    def _found_on_link(self, machine: str, address: str) -> bool:
        """Whether neighbours on its first link find the address there.

        A machine answers ARP for all of its addresses on every link, but neighbour discovery (RFC 4861 7.2.3) only
        for those of the link that is asked on; one that is borrowed may be on the other one.
        """
        ip = ipaddress.ip_address(address)
        here = [
            ipaddress.ip_interface(f"{own}/{prefix}")
            for interface, own, prefix in self._lab.cluster.net[machine].netlink.addresses()
            if interface == "eth0"
        ]
        if ip.version == 6:
            return any(ip == each.ip for each in here)
        return any(ip in each.network for each in here)

    def _route_vips(self) -> None:
        """Ways to what Services ask for beyond the lab's own networks: balancer's addresses and external IPs."""
        cluster = self._lab.cluster
        network = ipaddress.ip_network(cluster.options.vips)
        for service in cluster.objects.services.values():
            for ingress in service.load_balancer_ingress:
                if ipaddress.ip_address(ingress.ip) not in network:
                    cluster.reach.by_balancer(ingress.ip)
            for address in service.external_ips:
                if address not in self._names.owners():
                    cluster.reach.by_first_node(address)

    # Sending

    def _send_all(self, specs: Sequence[FlowSpec]) -> None:
        sendings = [self._sending(spec) for spec in specs]
        ready = []
        for sending in sendings:
            why = self._lab.prober.why_not(sending.probe)
            if why:
                self._lab.check(f"{sending.spec.name}: sent", False, "the probe can be sent", why)
            else:
                ready.append(sending)
        self._round([(sending, ANSWERED if _answered(sending.spec) else 1) for sending in ready])
        for sending in ready:
            self._spread(sending)
            self._seek(sending)
            self._judge(sending)

    def _sending(self, spec: FlowSpec) -> _Sending:
        lab, source = self._lab, spec.source
        borrowed = source.address
        sender = self._senders[borrowed, source.name] if borrowed else self._names.named(spec, "from", source.name)
        address, port = self._names.address(spec, sender)
        if borrowed and (":" in borrowed) != (":" in address):
            where = f"{spec.place}: {spec.name}: from"
            raise InputError(f"{where}: {borrowed} and {address}, where it sends to, are of different families")
        if borrowed and sender.startswith("pod/") and not source.name.startswith("pod/"):
            borrowed = ""
        next_hop, interface = self._via(spec, sender, address) if spec.via else ("", "")
        probe = Probe(
            sender,
            address,
            port,
            spec.to.protocol,
            name=spec.name,
            source_address=borrowed,
            next_hop=next_hop,
            interface=interface,
            deadline_s=1.0 if _answered(spec) or spec.expect.outcome in (None, "rejected") else NOT_WAITING_S,
        )
        hops = tuple(self._names.named(spec, "hops", name) for name in spec.expect.hops)
        vips = {i.ip for service in lab.cluster.objects.services.values() for i in service.load_balancer_ingress}
        choice = len(spec.expect.endpoints) != 1 or (address in vips and not spec.via)
        return _Sending(spec, probe, hops, choice)

    def _via(self, spec: FlowSpec, sender: str, address: str) -> tuple[str, str]:
        """Next hop and interface for a packet that shall enter the cluster by a node.  Raises InputError."""
        lab, where = self._lab, f"{spec.place}: {spec.name}: via"
        agent = lab.cluster.nodes.get(spec.via)
        if agent is None:
            raise InputError(f"{where}: the lab has no node {spec.via!r}; its nodes are {', '.join(lab.cluster.nodes)}")
        role = lab.namespaces[sender].role
        if role == "pod" and any(running.namespace.name == sender for running in agent.pods.values()):
            return "", ""
        if role != "client":
            raise InputError(f"{where}: {sender} can't choose the node by which its packets enter; only the client can")
        next_hop = next((a for a in agent.node.addresses if (":" in a) == (":" in address)), "")
        if not next_hop:
            raise InputError(f"{where}: {spec.via} has no address of the family of {address}")
        beside = any(name == "eth1" for name in lab.cluster.net[sender].netlink.links())
        return next_hop, "eth1" if beside else "eth0"

    def _round(self, wanted: Sequence[tuple[_Sending, int]]) -> None:
        probes = [(sending, probe) for sending, count in wanted for probe in sending.probes(count)]
        for at in range(0, len(probes), TOGETHER):
            part = probes[at : at + TOGETHER]
            results = self._lab.send_probes([probe for _sending, probe in part], keep=False, inquire=False)
            for (sending, _probe), sent in zip(part, results, strict=True):
                sending.flows.append(sent.flow)

    def _spread(self, sending: _Sending) -> None:
        """Go on until every endpoint was seen and there are counts enough, or none of them can be late by chance.

        Not where somebody else answers, or nobody: the check of the endpoints fails by that alone.
        """
        expect = sending.spec.expect
        if expect.spread == "none" or not endpoints(sending.flows, expect.endpoints).passed:
            return
        number = len(expect.endpoints)
        enough, most = spread.probes_to_see(number), spread.probes_to_see(number, spread.LEAST_SHARE)
        if expect.spread == "even":
            enough = most
        while (sent := len(sending.flows)) < most:
            if sent >= enough and seen_all(sending.flows, expect.endpoints):
                return
            self._round([(sending, min(TOGETHER, (enough if sent < enough else most) - sent))])
        if expect.spread == "even" and uneven(sending.flows, expect.endpoints):
            # Once in a thousand times that is chance: a second sample decides, all alone.
            sending.sample = len(sending.flows)
            while (left := sending.sample + most - len(sending.flows)) > 0:
                self._round([(sending, min(TOGETHER, left))])

    def _seek(self, sending: _Sending) -> None:
        """Where somebody chooses the way, go on until the expected one was chosen."""
        if not sending.hops or not sending.choice:
            return
        left = TRIES_PER_NODE * len(self._lab.cluster.nodes)
        while left > 0 and not any(expect_hops(flow, *sending.hops).passed for flow in sending.flows):
            count = min(left, TRIES_PER_NODE)
            self._round([(sending, count)])
            left -= count

    def _judge(self, sending: _Sending) -> None:
        nodes = set(self._lab.cluster.nodes)
        checks = judge(
            sending.spec,
            sending.flows,
            nodes=nodes,
            hops=sending.hops,
            choice=sending.choice,
            sample=sending.sample,
        )
        told = self._representative(sending, checks)
        if not all(check.passed for check in checks) and self._lab.inquiry is not None:
            # Asked now: the next step of the file may change what there is to ask about.
            self._lab.why(told)
        for check in checks:
            self._lab.keep_about(told, check)
        self._lab.told.append(told)

    def _representative(self, sending: _Sending, checks: Sequence[Check]) -> Flow:
        """The flow that the story tells: one that a check failed for, or one that went the expected way."""
        if all(check.passed for check in checks):
            good = (flow for flow in sending.flows if not sending.hops or expect_hops(flow, *sending.hops).passed)
            return next(good, sending.flows[0])
        nodes = set(self._lab.cluster.nodes)
        for flow in sending.flows:
            alone = judge(sending.spec, [flow], nodes=nodes, hops=sending.hops, choice=False)
            if not all(check.passed for check in alone if not check.name.endswith(": spread")):
                return flow
        return sending.flows[0]


def _answered(spec: FlowSpec) -> bool:
    return spec.expect.outcome == "accepted"


def _bits(address: str) -> int:
    return 128 if ":" in address else 32


def _sender_pod(address: str, agent: NodeAgent, origin: Origin) -> Pod:
    """A pod that serves nothing and has this address, on this node."""
    name = f"sender-{address.replace('.', '-').replace(':', '-')}"
    meta = ObjectMeta(name, "default", annotations={"hoplab.dev/ip": address, STAND_IN: "a sender of a check file"})
    return Pod(meta, (Container("shell", "busybox"),), agent.name, origin=origin)
