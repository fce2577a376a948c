"""The cluster: builds the machines, holds the objects, and converges until nothing changes.

The store is the truth, as etcd is: what is applied goes into it, and every controller reads there
and writes there.  One `converge` has them all work one after the other until nothing changes:
Services get their addresses, workloads become pods, pods get nodes and addresses, addresses become
endpoints, nodes get rules, the balancer its candidates.  A lab that stays has the same work done
whenever the store changes (hoplab.cluster.following).
"""

from __future__ import annotations

import ipaddress
import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hoplab.cluster import fabric, outside, standing
from hoplab.cluster.allocating import Allocator
from hoplab.cluster.balancing import BalancerAgent
from hoplab.cluster.controllers import Controllers
from hoplab.cluster.etcfiles import cluster_dns
from hoplab.cluster.kubelet import Kubelets
from hoplab.cluster.machines import local_endpoints, merged, node_of, prefix_of
from hoplab.cluster.node import NodeAgent, PodOnNode
from hoplab.cluster.options import CLUSTER_CIDR, NODE_PORTS, ClusterOptions
from hoplab.cluster.podnetworks import chapter_cni_config, cloud_cni_config, given_last
from hoplab.cluster.publishing import Publisher
from hoplab.cluster.reach import Reach
from hoplab.cluster.recorder import Recorder
from hoplab.cluster.responders import Responders
from hoplab.cluster.rewriting import rewritten
from hoplab.cluster.runtime import ContainerRuntime
from hoplab.cluster.standin_pods import StandIns, route_stand_in
from hoplab.cluster.told_programs import ToldPrograms
from hoplab.cluster.topology import build_topology
from hoplab.cluster.typed import Typed
from hoplab.dataplane.rules import families_of
from hoplab.dns.resolv import ResolvConf
from hoplab.errors import HoplabError, InputError
from hoplab.kube.admit import Ranges, admit
from hoplab.kube.clock import timestamp
from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.deletion import delete
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import NotFound, Store
from hoplab.kube.types import EndpointSlice, Pod, Service
from hoplab.net.loop import DeadlinePassed, Loop
from hoplab.net.machines import LabNet
from hoplab.net.namespaces import Namespace
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.timers import Timers
from hoplab.net.zygote import Zygote

if TYPE_CHECKING:
    from hoplab.cluster.following import Follower

LINK_LOCALS_S = 3.0
"""How long machines may take until they have the addresses that neighbour discovery needs."""
MOST_ROUNDS = 500
"""Converging rounds before something must be wrong: two controllers that undo each other."""
HISTORY = 10_000
"""Changes that the store remembers for watchers."""
PATIENCE_S = 90.0
"""How long `converge` waits for something that is under way: a pod's grace, a probe's first verdict."""


class NotConverging(HoplabError):
    """The controllers keep changing things."""


class Cluster:
    """One running cluster inside the sandbox."""

    def __init__(self, zygote: Zygote, options: ClusterOptions) -> None:
        self.options = options
        self.loop = Loop()
        self.timers = Timers(self.loop)
        self.clock = time.time
        uids = random.Random(f"{options.seed}: uids")
        self.store = Store(
            lambda: _uid(uids),
            HISTORY,
            lock=threading.RLock(),
            now=lambda: timestamp(self.clock()),
        )
        self.objects = Typed(self.store)
        self.recorder = Recorder(self.store, self.clock)
        self.warnings: list[str] = []
        self.nodes: dict[str, NodeAgent] = {}
        self._zygote = zygote
        self.containers = ContainerRuntime(zygote, self.objects.find, self._about_pod)
        self.programs = ToldPrograms(self, zygote)
        self._chance = random.Random(options.seed)
        self._admission = random.Random(f"{options.seed}: admission")
        self.ranges = Ranges(tuple(options.service_cidrs), NODE_PORTS)
        self.controllers = Controllers(self.store, self.recorder, self._chance, self.clock)
        self._publisher = Publisher(self.store, self.objects)
        self.allocator = Allocator(self.store, self.objects, self.recorder, options, self._chance)
        self._told = 0
        self._ruled = -1
        self._api_at: tuple[str, int] | None = None
        self.net: LabNet
        self.reach: Reach
        self.kubelets: Kubelets
        self._stand_ins: StandIns | None = None
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
                node = merged(merged(node_of(machine), built.get(machine.name)), given.pop(machine.name, None))
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
        server = outside.outside_server(self.net.hosts)
        node_resolver = ResolvConf((server.address,) if server else ())
        mtu = fabric.pod_mtu(options.fabric)
        for agent in self.nodes.values():
            for address in (*agent.node.addresses, *agent.node.extra_addresses):
                extra = address in agent.node.extra_addresses
                agent.machine.netlink.address("eth0", f"{address}/{prefix_of(address)}", secondary=extra)
            agent.resolver = node_resolver
            if options.topology == "single":
                agent.prepare("k8s.conf", chapter_cni_config())
            else:
                cidrs = agent.node.pod_cidrs
                agent.prepare(
                    "10-hoplab.conflist",
                    cloud_cni_config(cidrs, mtu, options.reserved),
                    given_last(cidrs, options.reserved),
                )
        agents = tuple(self.nodes.values())
        self.reach = Reach(self.net.hosts, agents, "router" if options.mode == "passthrough" else "lb")
        if options.ipv6:
            self.reach.way_out6()
        self.reach.node_addresses()
        fabric.connect(agents, options.fabric)
        if options.way_out == "routes":
            for agent in agents:
                for cidr in agent.node.pod_cidrs:
                    self.reach.by_node(cidr, agent)
        self.kubelets = Kubelets(
            self.nodes, self.store, self.recorder, self.loop, self.timers, self._zygote, self.clock
        )
        if options.stand_ins:
            self._stand_ins = StandIns(self, Responders(self.net.hosts, self._zygote, self.reach))
        self.kubelets.started = lambda running: route_stand_in(self, running)
        for name in standing.NAMESPACES:
            self.store.create(standing.namespace(name))
        for agent in agents:
            self.store.create(standing.node(agent.node, self.clock()))
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

    @property
    def slices(self) -> tuple[EndpointSlice, ...]:
        """EndpointSlices of every Service, as typed values."""
        return tuple(self.objects.slices.values())

    # Changing it

    def apply(self, objects: Sequence[KubeObject]) -> None:
        """Take valid objects over; those of the same name are replaced.  Nothing happens before `converge`.

        Addresses and ports are taken as written, also outside the ranges.  What the cluster wrote into an
        object stays: status, what a Service was given, who owns it.
        """
        for obj in objects:
            with self.store.lock:
                if obj.kind not in CLUSTER_SCOPED and self.store.find("Namespace", obj.meta.namespace, "") is None:
                    self.store.create(standing.namespace(obj.meta.namespace))
                before = self.store.find(obj.kind, obj.meta.name, obj.meta.namespace)
                if before is not None:
                    self.store.update(rewritten(before, obj))
                elif obj.kind in ("Service", "Node"):
                    self.store.create(obj)
                else:
                    self.store.create(self.admit(obj))

    def admit(self, obj: KubeObject) -> KubeObject:
        """The object as an API server would store it (hoplab.kube.admit).  Hold `store.lock` from here to the write."""
        return admit(obj, self.store, self.ranges, self._admission)

    def delete(self, keys: Iterable[tuple[str, str, str]], grace: int | None = 0) -> None:
        """Delete objects by (kind, namespace, name); what is not there is fine.  Nothing happens before `converge`.

        `grace`: seconds for pods, 0: at once, None: what each of them says.
        """
        for kind, namespace, name in keys:
            with suppress(NotFound):
                delete(self.store, kind, name, namespace, now=self.clock(), grace=grace, propagation="Background")

    def serve_api(self, address: str, port: int) -> None:
        """Have the Service `kubernetes` lead to the API server at this address (pkg/controlplane/reconcilers)."""
        self._api_at = (address, port)
        self._keep_what_stands()

    def _keep_what_stands(self) -> None:
        """Make what is missing of it and of each namespace's account, as a cluster does that sees its own deleted."""
        if self._api_at is None:
            return
        first = str(ipaddress.ip_network(self.options.service_cidrs[0])[1])
        for obj in standing.kubernetes_service(first, *self._api_at):
            if self.store.find(obj.kind, obj.meta.name) is None:
                self.apply([obj])
        with self.store.lock:
            for namespace in self.store.each("Namespace"):
                name = namespace.meta.name
                if not namespace.deleting and self.store.find("ServiceAccount", "default", name) is None:
                    self.store.create(standing.account(name))

    def converge(self) -> None:
        """Run the controllers until nothing changes, and nothing is under way that will change something.

        Raises InputError for objects that can't be (a node that isn't there, an address that is taken),
        CniError, CommandFailed or SpawnFailed for what failed on the way, NotConverging.
        """
        started = time.monotonic()
        for _round in range(MOST_ROUNDS):
            if self.step():
                continue
            if not self._wait():
                break
        else:
            raise NotConverging(f"the cluster still changes after {MOST_ROUNDS} rounds of its controllers")
        if self.options.ipv6:
            self._wait_for_link_locals()
        self.check_health()
        self.timings_s["converge"] = self.timings_s.get("converge", 0.0) + time.monotonic() - started

    def _wait_for_link_locals(self) -> None:
        """Until the machines can forward IPv6 at once; one that can't after a while is told, and ends nothing."""
        end = time.monotonic() + LINK_LOCALS_S
        for machine in self.net.hosts:
            while missing := machine.netlink.without_link_local():
                if time.monotonic() > end:
                    self.warnings.append(f"{machine.name}: no link-local address on {', '.join(missing)}")
                    break
                self.loop.poll(0.01)

    def follow(self, rules_lag_s: float = 0.0) -> Follower:
        """From now on do by itself, in the loop, what `converge` does: for a lab that stays.

        `rules_lag_s`: how long the news of a change takes to the kube-proxies, when it is to take time.
        """
        from hoplab.cluster.following import Follower

        return Follower(self, rules_lag_s)

    def step(self, *, always: bool = True, rules: bool = True) -> bool:
        """One round of every controller; whether anything changed.  Raises as `converge`.

        `always`: decide on rules also when no object changed that they come from.  `rules`: False leaves them for
        a later round.
        """
        self._keep_what_stands()
        changed = self.allocator.run()
        changed |= self.controllers.run()
        changed |= self._stand_ins.run() if self._stand_ins is not None else False
        if self.kubelets.begin_ends():
            changed = True
            self._publisher.run()
            self._sync_rules(always, rules)
        changed |= self.kubelets.sync()
        changed |= self._publisher.run()
        changed |= self._sync_rules(always, rules)
        self.containers.refresh()
        changed |= self.programs.sync()
        new, self._told = self.kubelets.warnings[self._told :], len(self.kubelets.warnings)
        self.warnings += new
        return changed

    def _wait(self) -> bool:
        """Wait for the next thing that happens by itself; False when nothing will."""
        why = self.kubelets.unsettled
        settles = min((s for s in (self.controllers.settles_in(), self.rules_due_in()) if s is not None), default=None)
        if not why and settles is None:
            return False
        version, timer = self.store.version, None
        rung: list[bool] = []
        if settles is not None:
            timer = self.timers.after(settles, lambda: rung.append(True))
        try:
            self.loop.run_until(
                lambda: bool(rung) or self.store.version != version or self.kubelets.news,
                PATIENCE_S,
                why or "a pod to have been ready for long enough",
            )
        except DeadlinePassed as error:
            raise NotConverging(str(error)) from error
        finally:
            if timer is not None:
                timer.cancel()
        return True

    def check_health(self, timeout_s: float = 1.0) -> bool:
        """Have the balancer ask the nodes and follow their answers; whether its configuration changed."""
        if self.balancer is None:
            return False
        nodes = [agent.node for agent in self.nodes.values()]
        return self.balancer.sync(tuple(self.objects.services.values()), nodes, timeout_s)

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

    @property
    def rules_due(self) -> bool:
        """Whether Services or endpoints changed since the nodes' rules were decided on, or some were held back."""
        loaded = all(agent.proxy.has_loaded for agent in self.nodes.values())
        changed = self.store.version_of("Service", "EndpointSlice") != self._ruled
        return changed or not loaded or self.rules_due_in() is not None

    def _sync_rules(self, always: bool, wanted: bool) -> bool:
        if not wanted or not (always or self.rules_due):
            return False
        version = self.store.version_of("Service", "EndpointSlice")
        self._ruled = version
        services = tuple(self.objects.services.values())
        slices = self.slices
        changed = [agent for agent in self.nodes.values() if agent.proxy.start_sync(services, slices)]
        for agent in changed:
            agent.proxy.finish_sync()
        for name, agent in self.nodes.items():
            agent.serve_health(services, local_endpoints(slices, name))
        return bool(changed)

    def _about_pod(self, pod: Pod, warning: str) -> None:
        """What a user should know of a pod's programs: at the end of a run, and where `kubectl describe` shows it."""
        self.warnings.append(f"{pod.origin}: pod {pod.meta.name}: {warning}")
        found = self.store.find("Pod", pod.meta.name, pod.meta.namespace)
        if found is not None:
            self.recorder.event(found, "Failed", warning, "kubelet", pod.node_name, warning=True)

    def rules_due_in(self) -> float | None:
        """Seconds until a node loads rules that its kube-proxy held back (minSyncPeriod), None when there are none."""
        return min((due for agent in self.nodes.values() if (due := agent.proxy.due_in()) is not None), default=None)

    def masquerade_outbound(self) -> None:
        """Load ip-masq-agent's chain on every node: what leaves the cluster gets the node's address."""
        inside = (CLUSTER_CIDR, *self.options.service_cidrs, "10.240.0.0/16", "127.0.0.0/8", "169.254.0.0/16")
        text = fabric.masquerade_text(inside)
        for agent in self.nodes.values():
            if "IPv4" in families_of(agent.node):
                agent.namespace.run(["iptables-restore", "--noflush"], text)


def _uid(chance: random.Random) -> str:
    """A UUID of version 4, as the API server gives every object one (RFC 9562 5.4)."""
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], f"4{digits[13:16]}", f"a{digits[17:20]}", digits[20:]))
