"""The cluster: builds the machines, holds the objects, and converges until nothing changes.

One `converge` does what the controllers of a real cluster do one after the other:
workloads become pods, pods get nodes and addresses, addresses become endpoints,
Services get their IPs and ports, nodes get rules, the balancer its candidates.
Every step decides in pure functions from what the step before left.
"""

from __future__ import annotations

import ipaddress
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hoplab.cluster import endpoints, fabric, scheduler, workloads
from hoplab.cluster.balancing import BalancerAgent
from hoplab.cluster.containers import kind_of
from hoplab.cluster.etcfiles import cluster_dns
from hoplab.cluster.images import program
from hoplab.cluster.node import NodeAgent, PodOnNode, attach, cloud_cni_config
from hoplab.cluster.options import CLUSTER_CIDR, NODE_NETWORKS, NODE_PORTS, ClusterOptions
from hoplab.cluster.reach import Reach
from hoplab.cluster.responders import Responders
from hoplab.cluster.runtime import ContainerRuntime
from hoplab.cluster.standins import holds, is_stand_in, stand_ins
from hoplab.cluster.topology import build_topology, chapter_cni_config
from hoplab.dataplane.rules import families_of
from hoplab.errors import HoplabError, InputError
from hoplab.kube.allocate import allocate, keeping
from hoplab.kube.objects import KubeObject
from hoplab.kube.types import EndpointSlice, Node, Pod, Service, Workload
from hoplab.net.cni import CniError
from hoplab.net.loop import Loop
from hoplab.net.machines import LabNet, Machine
from hoplab.net.namespaces import Namespace
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.zygote import Zygote

if TYPE_CHECKING:
    from hoplab.cluster.ingress import IngressControllers

MOST_ROUNDS = 10
"""Converging rounds before something must be wrong: two controllers that undo each other."""

Key = tuple[str, str]
"""namespace, name"""

NODE_GATEWAYS6 = {"lb": "fd00:10:240::2", "router": "fd00:10:240::1"}
"""topologies/cloud.py's machines on the node network, by their IPv6 addresses there."""


class NotConverging(HoplabError):
    """The controllers keep changing things."""


@dataclass(slots=True)
class Objects:
    """What was applied, as typed values by (namespace, name)."""

    services: dict[Key, Service] = field(default_factory=dict)
    pods: dict[Key, Pod] = field(default_factory=dict)
    workloads: dict[tuple[str, str, str], Workload] = field(default_factory=dict)
    slices: dict[Key, EndpointSlice] = field(default_factory=dict)
    documents: dict[tuple[str, str, str], KubeObject] = field(default_factory=dict)
    """Objects of other kinds, whole: ConfigMaps, Secrets, Ingresses and their classes, by kind, namespace, name."""

    def of(self, kind: str) -> list[KubeObject]:
        """The documents of one kind, in the order in which they came."""
        return [each for each in self.documents.values() if each.kind == kind]

    def find(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """One document, None when it is not there."""
        return self.documents.get((kind, namespace, name))


class Cluster:
    """One running cluster inside the sandbox."""

    def __init__(self, zygote: Zygote, options: ClusterOptions) -> None:
        self.options = options
        self.loop = Loop()
        self.objects = Objects()
        self.slices: tuple[EndpointSlice, ...] = ()
        self.warnings: list[str] = []
        self.nodes: dict[str, NodeAgent] = {}
        self._zygote = zygote
        self.containers = ContainerRuntime(zygote, self.objects.find, self.warnings.append)
        self._ingress: IngressControllers | None = None
        self._chance = random.Random(options.seed)
        self.net: LabNet
        self.reach: Reach
        self._responders: Responders
        self.balancer: BalancerAgent | None = None
        self.timings_s: dict[str, float] = {}

    def build(self) -> None:
        """Make the machines of the topology and prepare the nodes.  Raises InputError for an unknown topology."""
        started = time.monotonic()
        options = self.options
        self.net = LabNet(build_topology(options), self._zygote)
        self.net.start()
        given = {node.name: node for node in options.machines}
        built = {node.name: node for node in options.given_nodes}
        for machine in self.net.hosts:
            role = machine.params.get("role", "host")
            if role == "node":
                node = _merged(_merged(_node(machine), built.get(machine.name)), given.pop(machine.name, None))
                self.nodes[machine.name] = NodeAgent(
                    machine,
                    node,
                    options.proxy,
                    self._zygote,
                    self.loop,
                    self.containers,
                    cluster_dns(options.service_cidrs),
                )
            elif role == "balancer":
                self.balancer = BalancerAgent(machine, options, self.loop, self._zygote)
        if given:
            there = ", ".join(self.nodes)
            raise InputError(f"Node {next(iter(given))}: the topology has no machine of that name; it has {there}")
        mtu = fabric.pod_mtu(options.fabric)
        for agent in self.nodes.values():
            for address in (*agent.node.addresses, *agent.node.extra_addresses):
                extra = address in agent.node.extra_addresses
                agent.machine.netlink.address("eth0", f"{address}/{_prefix(address)}", secondary=extra)
            if options.ipv6:
                agent.machine.netlink.route(
                    "::/0", via=NODE_GATEWAYS6["router" if options.mode == "passthrough" else "lb"]
                )
            if options.topology == "single":
                agent.prepare("k8s.conf", chapter_cni_config())
            else:
                agent.prepare("10-hoplab.conflist", cloud_cni_config(agent.node.pod_cidrs, mtu, options.reserved))
        agents = tuple(self.nodes.values())
        self.reach = Reach(self.net.hosts, agents, "router" if options.mode == "passthrough" else "lb")
        self.reach.node_addresses()
        self._responders = Responders(self.net.hosts, self._zygote, self.reach)
        fabric.connect(agents, options.fabric)
        if options.way_out == "routes":
            for agent in agents:
                for cidr in agent.node.pod_cidrs:
                    self.reach.by_node(cidr, agent)
        self.timings_s["build"] = time.monotonic() - started

    # What there is

    def namespaces(self) -> dict[str, Namespace]:
        """Every namespace of the lab by its name: machines, switches, pods."""
        found = {machine.name: machine.namespace for machine in (*self.net.hosts, *self.net.switches)}
        for running in self.running():
            found[running.namespace.name] = running.namespace
        return found

    def running(self) -> list[PodOnNode]:
        """Every pod, by node and in order of start."""
        return [running for agent in self.nodes.values() for running in agent.pods.values()]

    def pod(self, name: str, namespace: str = "default") -> PodOnNode:
        """A running pod by its name, or by the beginning of a name that only one pod has.  Raises InputError."""
        found = [r for r in self.running() if r.pod.meta.namespace == namespace and r.pod.meta.name == name]
        found = found or [
            r for r in self.running() if r.pod.meta.namespace == namespace and r.pod.meta.name.startswith(f"{name}-")
        ]
        if len(found) != 1:
            names = ", ".join(r.pod.meta.name for r in self.running()) or "none"
            raise InputError(f"no single pod is called {name!r} in namespace {namespace!r}; running pods: {names}")
        return found[0]

    def service(self, name: str, namespace: str = "default") -> Service:
        """A Service with its addresses.  Raises InputError when there is none of that name."""
        service = self.objects.services.get((namespace, name))
        if service is None:
            known = ", ".join(s.key for s in self.objects.services.values()) or "none"
            raise InputError(f"no Service is called {namespace}/{name}; there are: {known}")
        return service

    def met_at(self) -> str:
        """An address at which the client meets a Service, IP or IP:PORT; '' when there is none."""
        for service in self.objects.services.values():
            if service.load_balancer_ingress and service.ports:
                port = service.ports[0].port
                return service.load_balancer_ingress[0].ip + (f":{port}" if port != 80 else "")
        for service in self.objects.services.values():
            port = next((each.node_port for each in service.ports if each.node_port), 0)
            if port:
                return f"{next(iter(self.nodes.values())).node.addresses[0]}:{port}"
        return ""

    def object_of(self) -> Mapping[str, str]:
        """Chain name -> what it exists for, over all nodes."""
        return {chain: about for agent in self.nodes.values() for chain, about in agent.proxy.object_of().items()}

    # Changing it

    def apply(
        self,
        services: Iterable[Service] = (),
        pods: Iterable[Pod] = (),
        workload_list: Iterable[Workload] = (),
        slices: Iterable[EndpointSlice] = (),
        documents: Iterable[KubeObject] = (),
    ) -> None:
        """Take objects over; those of the same name are replaced.  Nothing happens before `converge`."""
        for service in services:
            key = (service.meta.namespace, service.meta.name)
            before = self.objects.services.get(key)
            self.objects.services[key] = keeping(before, service) if before else service
        for pod in pods:
            self.objects.pods[pod.meta.namespace, pod.meta.name] = pod
        for workload in workload_list:
            self.objects.workloads[workload.kind, workload.meta.namespace, workload.meta.name] = workload
        for piece in slices:
            self.objects.slices[piece.meta.namespace, piece.meta.name] = piece
        for document in documents:
            self.objects.documents[document.key] = document

    def delete(
        self,
        services: Iterable[Key] = (),
        pods: Iterable[Key] = (),
        workload_list: Iterable[tuple[str, str, str]] = (),
        slices: Iterable[Key] = (),
        documents: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Take objects away, by (namespace, name), workloads and documents by (kind, namespace, name).

        What is not there is fine.  Nothing happens before `converge`.
        """
        for key in services:
            self.objects.services.pop(key, None)
        for key in pods:
            self.objects.pods.pop(key, None)
        for owner in workload_list:
            self.objects.workloads.pop(owner, None)
        for key in slices:
            self.objects.slices.pop(key, None)
        for kind_and_name in documents:
            self.objects.documents.pop(kind_and_name, None)

    def converge(self) -> None:
        """Run the controllers until nothing changes.

        Raises InputError for objects that can't be (a node that isn't there, an address that is taken),
        CniError, CommandFailed or SpawnFailed for what failed on the way, NotConverging.
        """
        started = time.monotonic()
        for _round in range(MOST_ROUNDS):
            changed = self._allocate()
            changed |= self._run_pods()
            changed |= self._sync_rules()
            changed |= self._sync_ingress()
            if not changed:
                break
        else:
            raise NotConverging(f"the cluster still changes after {MOST_ROUNDS} rounds of its controllers")
        self.check_health()
        self.timings_s["converge"] = self.timings_s.get("converge", 0.0) + time.monotonic() - started

    def check_health(self, timeout_s: float = 1.0) -> bool:
        """Have the balancer ask the nodes and follow their answers; whether its configuration changed."""
        if self.balancer is None:
            return False
        nodes = [agent.node for agent in self.nodes.values()]
        return self.balancer.sync(tuple(self.objects.services.values()), nodes, timeout_s)

    def _allocate(self) -> bool:
        before = tuple(self.objects.services.values())
        after = allocate(
            before,
            service_cidrs=self.options.service_cidrs,
            node_ports=NODE_PORTS,
            vips=self.options.vips,
            chance=self._chance,
        )
        for service in after:
            self.objects.services[service.meta.namespace, service.meta.name] = service
        return bool(after != before)

    def _run_pods(self) -> bool:
        running = [r.pod for r in self.running()]
        names = list(self.nodes)
        owned = [pod for pod in running if pod.owner]
        plan = workloads.plan(tuple(self.objects.workloads.values()), owned, names, self._chance)
        present = {(pod.meta.namespace, pod.meta.name): pod for pod in running}
        stand_in_pods, responding = self._stand_in_pods()
        wanted = {**stand_in_pods, **self.objects.pods}
        gone = [pod for key, pod in present.items() if not pod.owner and _outdated(pod, wanted.get(key))]
        self.stop_pods([*plan.delete, *gone])
        left = present.keys() - {(pod.meta.namespace, pod.meta.name) for pod in gone}
        bare = [pod for key, pod in wanted.items() if key not in left]
        new = scheduler.schedule([*bare, *plan.create], running, names)
        self._start_pods(new)
        return bool(new or plan.delete or gone or responding)

    def _start_pods(self, pods: Sequence[Pod]) -> None:
        if not pods:
            return
        ipv6 = any(":" in cidr for agent in self.nodes.values() for cidr in agent.node.pod_cidrs)
        sandboxes = []
        for name, agent in self.nodes.items():
            sandboxes += agent.sandboxes([pod for pod in pods if pod.node_name == name], ipv6=ipv6)
        # Who asks for an address comes first: another pod might be given it meanwhile.
        asking = [sandbox for sandbox in sandboxes if sandbox.pod.requested_ip]
        content = [sandbox for sandbox in sandboxes if not sandbox.pod.requested_ip]
        try:
            started = attach(asking) + attach(content)
        except CniError as error:
            raise InputError(str(error)) from error
        for running in started:
            agent = self.nodes[running.pod.node_name]
            agent.start_servers(running)
            if is_stand_in(running.pod) and not holds(agent.node, running.pod.requested_ip):
                self.reach.by_node(running.pod.requested_ip, agent)
            for container in running.pod.containers:
                warning = program(container).warning
                if warning and kind_of(container) == "stand-in":
                    self.warnings.append(f"{running.pod.origin}: pod {running.pod.meta.name}: {warning}")
        self.containers.settle()

    def _stand_in_pods(self) -> tuple[dict[Key, Pod], bool]:
        """Pods for endpoints that have none, and whether responders on machines changed."""
        if not self.options.stand_ins:
            return {}, False
        own = [r for r in self.running() if not is_stand_in(r.pod)]
        wanted = stand_ins(
            self.objects.slices.values(),
            [agent.node for agent in self.nodes.values()],
            {(r.pod.meta.namespace, r.pod.meta.name) for r in own} | set(self.objects.pods),
            {ip for r in own for ip in r.ips} | {p.requested_ip for p in self.objects.pods.values() if p.requested_ip},
        )
        mine = {address: one for address, one in wanted.items() if self._responders.is_mine(one)}
        changed = self._responders.sync(mine)
        return {(one.namespace, one.name): one.pod() for a, one in wanted.items() if a not in mine}, changed

    @contextmanager
    def serving(self, machine: str, address: str, port: int) -> Iterator[None]:
        """A server on a machine, until the block ends.  Raises SpawnFailed when the port is taken."""
        namespace = self.net[machine].namespace
        config = ServerConfig(machine, (Listener(port, "TCP", address),), node=machine)
        with open(os.devnull, "wb") as nowhere:
            pid = self._zygote.server(f"{machine}: {port}", namespace.pid, config.to_mapping(), nowhere.fileno())
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop_pods(self, pods: Sequence[Pod]) -> None:
        """Stop pods at once (no grace)."""
        for name, agent in self.nodes.items():
            agent.detach([(pod.meta.namespace, pod.meta.name) for pod in pods if pod.node_name == name])

    def _sync_rules(self) -> bool:
        services = tuple(self.objects.services.values())
        pods = [endpoints.RunningPod(r.pod, r.ips, zone=self.nodes[r.pod.node_name].node.zone) for r in self.running()]
        made = endpoints.slices(services, pods)
        self.slices = (*made, *self.objects.slices.values())
        changed = [agent for agent in self.nodes.values() if agent.proxy.start_sync(services, self.slices)]
        for agent in changed:
            agent.proxy.finish_sync()
        for name, agent in self.nodes.items():
            agent.serve_health(services, _local_endpoints(self.slices, name))
        return bool(changed)

    def _sync_ingress(self) -> bool:
        controllers = [
            self.nodes[r.pod.node_name].as_running(r)
            for r in self.running()
            if any(kind_of(container) == "ingress" for container in r.pod.containers)
        ]
        ingresses = self.objects.of("Ingress")
        if not controllers and not ingresses:
            return False
        # Nine labs of ten have no Ingress, and need not wait for this import.
        from hoplab.cluster import ingress
        from hoplab.ingress.rules import View

        if self._ingress is None:
            self._ingress = ingress.IngressControllers(self.containers, self.objects.find, self.warnings.append)
        seen = View(
            ingresses,
            self.objects.of("IngressClass"),
            self.objects.of("Secret"),
            tuple(self.objects.services.values()),
            self.slices,
        )
        served = self._ingress.sync(controllers, seen)
        self.apply(documents=ingress.updated(ingresses, served))
        return served.changed

    def masquerade_outbound(self) -> None:
        """Load ip-masq-agent's chain on every node: what leaves the cluster gets the node's address."""
        inside = (CLUSTER_CIDR, *self.options.service_cidrs, "10.240.0.0/16", "127.0.0.0/8", "169.254.0.0/16")
        text = fabric.masquerade_text(inside)
        for agent in self.nodes.values():
            if "IPv4" in families_of(agent.node):
                agent.namespace.run(["iptables-restore", "--noflush"], text)


def _node(machine: Machine) -> Node:
    """The Node object of a machine, from what its topology says."""
    return Node(
        machine.name,
        (str(machine.params["ip"]).partition("/")[0],),
        pod_cidrs=(str(machine.params["pod_cidr"]),),
        labels={"kubernetes.io/hostname": machine.name},
    )


def _outdated(running: Pod, wanted: Pod | None) -> bool:
    """Whether a bare pod has to go: nobody wants it, or it stood in for an endpoint that is another one now."""
    if wanted is None:
        return True
    if not is_stand_in(running):
        return False
    return (running.meta, running.containers, running.node_name) != (wanted.meta, wanted.containers, wanted.node_name)


def _prefix(address: str) -> int:
    """Prefix length of a node's address: the node network's, or a host's where it lies elsewhere."""
    ip = ipaddress.ip_address(address)
    return next((n.prefixlen for n in NODE_NETWORKS if n.version == ip.version and ip in n), ip.max_prefixlen)


def _merged(machine: Node, given: Node | None) -> Node:
    """What a Node object says of a machine, the topology's word where it says nothing."""
    if given is None:
        return machine
    return replace(
        given,
        addresses=given.addresses or machine.addresses,
        pod_cidrs=given.pod_cidrs or machine.pod_cidrs,
        labels={**machine.labels, **given.labels},
    )


def _local_endpoints(slices: Iterable[EndpointSlice], node: str) -> dict[str, int]:
    """Service -> number of ready endpoints on a node: what a healthCheckNodePort tells."""
    found: dict[str, set[str]] = {}
    for piece in slices:
        key = f"{piece.meta.namespace}/{piece.service}"
        for endpoint in piece.endpoints:
            if endpoint.ready and endpoint.node_name == node:
                found.setdefault(key, set()).update(endpoint.addresses)
    return {key: len(addresses) for key, addresses in found.items()}
