"""One node of the cluster: its kubelet, its container runtime and its kube-proxy, in small.

A node is a namespace with an uplink, a CNI configuration and rules.  The agent
starts and stops pods in it (holder, CNI plugins, servers), loads the rules that the
data plane decided on, and serves kube-proxy's health.  It keeps what it did, decides
nothing, and every step can be repeated.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from hoplab.cluster import health
from hoplab.cluster.containers import kind_of
from hoplab.cluster.images import program
from hoplab.cluster.pod_values import Place
from hoplab.cluster.podnetworks import CLOUD_NETWORK, ROUTED, routed_cni_config
from hoplab.cluster.proxy import KubeProxy
from hoplab.cluster.runtime import ContainerRuntime, RunningPod
from hoplab.cluster.standins import holds, is_stand_in
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.rules import families_of
from hoplab.dns.resolv import NSSWITCH, ResolvConf, pod_hosts, pod_resolv_conf
from hoplab.errors import InputError
from hoplab.kube.types import EMPTY, Container, Node, Pod, Service
from hoplab.net.cni import (
    Attachment,
    CniError,
    CniResult,
    CniRuntime,
    NetworkConfig,
    read_config,
    write_config,
    write_state,
)
from hoplab.net.loop import Loop
from hoplab.net.machines import MACHINE_SYSCTLS, Machine
from hoplab.net.namespaces import Namespace, listens
from hoplab.net.netlink import Netlink, NetlinkFailed, offloads_off, write_sysctls
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.zygote import PodSpec, SpawnFailed, Zygote

NODE_SYSCTLS: Mapping[str, str | int] = {
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.netfilter.nf_conntrack_timestamp": 1,
}


@dataclass(slots=True)
class PodOnNode:
    """A pod as its node runs it."""

    pod: Pod
    namespace: Namespace
    attachment: Attachment
    result: CniResult
    servers: dict[str, int] = field(default_factory=dict)
    """container name -> process id."""
    logs: dict[str, list[str]] = field(default_factory=dict)
    """container name -> files that its runs wrote to, the present one last."""
    log: str = ""
    """File that the pod's servers write to."""

    @property
    def ips(self) -> tuple[str, ...]:
        """Addresses that CNI gave, in its order."""
        return self.result.ips


def pod_namespace_name(pod: Pod) -> str:
    """`pod/NAME`, with the Kubernetes namespace in between unless it is the default one."""
    inside = "" if pod.meta.namespace == "default" else f"{pod.meta.namespace}/"
    return f"pod/{inside}{pod.meta.name}"


def container_id(pod: Pod) -> str:
    """64 hex digits as a runtime gives them; made from the pod's name, or taken from hoplab.dev/container-id."""
    given = pod.meta.annotations.get("hoplab.dev/container-id", "")
    return given or hashlib.sha256(f"{pod.meta.namespace}/{pod.meta.name}/{pod.meta.uid}".encode()).hexdigest()


class NodeAgent:
    """Does on one node what was decided elsewhere."""

    def __init__(
        self,
        machine: Machine,
        node: Node,
        config: ProxyConfig,
        zygote: Zygote,
        loop: Loop,
        containers: ContainerRuntime,
        name_server: str,
    ) -> None:
        self.machine, self.node = machine, node
        self.namespace: Namespace = machine.namespace
        self.pods: dict[tuple[str, str], PodOnNode] = {}
        self.healthy = True
        """Whether kube-proxy keeps up, as /healthz tells it; a lesson may switch it off."""
        self.eligible = True
        """False for a node that is about to be deleted: /healthz says no, /livez goes on saying yes."""
        self._synced = time.time()
        self.name_server = name_server
        """What pods ask for names: the cluster's name server, whether or not it runs."""
        self._zygote, self._loop, self._containers = zygote, loop, containers
        self.log_opened: Callable[[str, str, str], None] = lambda _uid, _container, _path: None
        """Called with the file of each container's run before that begins; files stay when their pod goes."""
        self._health: dict[int, health.HealthServer] = {}
        self._health_checked: Mapping[int, Service] = {}
        self._local_endpoints: Mapping[str, int] = {}
        self._past_ips: set[str] = set()
        self.resolver = ResolvConf()
        """What the node itself asks."""
        self.proxy = KubeProxy(self.namespace, node, config)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def prepare(self, cni_name: str, cni_text: str, given_last: Mapping[str, str] = EMPTY) -> None:
        """Sysctls of a node, its CNI configuration, kube-proxy's healthz.

        `given_last`: where host-local begins to look for free addresses (`podnetworks.given_last`).
        """
        write_sysctls(self.namespace, {**NODE_SYSCTLS, **self.proxy.config.sysctls()})
        write_config(self.namespace, cni_name, cni_text)
        for number, address in given_last.items():
            write_state(self.namespace, CLOUD_NETWORK, f"last_reserved_ip.{number}", address)
        os.makedirs(self.namespace.path("/var/log/pods"), exist_ok=True)
        self._health[health.KUBE_PROXY_HEALTHZ_PORT] = health.HealthServer(
            self._loop, self.namespace, health.KUBE_PROXY_HEALTHZ_PORT, self._healthz
        )

    def _healthz(self, path: str) -> health.Answer | None:
        now = time.time()
        match path:
            case "/healthz":
                return health.kube_proxy_healthz(self.healthy, self.eligible, now, self._synced)
            case "/livez":
                return health.kube_proxy_livez(self.healthy, now, self._synced)
        return None

    # Pods

    def sandboxes(self, pods: Sequence[Pod], ipv6: bool = False) -> list[PodSandbox]:
        """Make the pods' namespaces; `attach` then gives them their interfaces."""
        specs = [
            PodSpec(
                pod_namespace_name(pod),
                self.namespace.pid,
                f"cni-{container_id(pod)[:20]}",
                pod.hostname or pod.meta.name,
                {
                    "/etc/resolv.conf": pod_resolv_conf(pod, (self.name_server,), self.resolver).text(),
                    "/etc/nsswitch.conf": NSSWITCH,
                },
                {**MACHINE_SYSCTLS, "net.ipv6.conf.all.disable_ipv6": int(not ipv6)}
                | {"net.ipv6.conf.default.disable_ipv6": int(not ipv6)},
                self._containers.volumes(pod),
                self._containers.shown(pod),
            )
            for pod in pods
        ]
        pids = self._zygote.pods(specs)
        config = read_config(self.namespace)
        attachments = [
            Attachment(
                self.namespace,
                self._network_of(pod, config),
                pod_namespace_name(pod),
                container_id(pod),
                f"/run/netns/{spec.netns}",
                "eth0",
                {
                    "K8S_POD_NAMESPACE": pod.meta.namespace,
                    "K8S_POD_NAME": pod.meta.name,
                    "K8S_POD_INFRA_CONTAINER_ID": container_id(pod),
                    # host-local reads the wanted address here; what it can't give is in the configuration itself.
                    **({"IP": pod.requested_ip} if pod.requested_ip and not self._beyond(pod) else {}),
                },
            )
            for pod, spec in zip(pods, specs, strict=True)
        ]
        return [
            PodSandbox(self, pod, Namespace(spec.name, pid, "pod"), attachment)
            for pod, spec, pid, attachment in zip(pods, specs, pids, attachments, strict=True)
        ]

    def _network_of(self, pod: Pod, config: NetworkConfig) -> NetworkConfig:
        if self._beyond(pod):
            return routed_cni_config(pod.requested_ip, self.machine.netlink.links()["eth0"]["mtu"])
        return config

    def _beyond(self, pod: Pod) -> bool:
        """Whether the lab itself made the pod for an address outside this node's pod subnets."""
        return is_stand_in(pod) and not holds(self.node, pod.requested_ip)

    def quiet_offloads(self) -> None:
        """Have every bridge and veth of this node send complete frames."""
        links = self.machine.netlink.links()
        names = [name for name, link in links.items() if link["kind"] in ("bridge", "veth")]
        try:
            offloads_off(self.namespace, names)
        except NetlinkFailed:
            # One that went with its pod meanwhile needs no quiet.
            there = self.machine.netlink.links()
            if all(name in there for name in names):
                raise
            self.quiet_offloads()

    def start_container(self, running: PodOnNode, container: Container) -> None:
        """Start what stands for one container of a pod; nothing where nothing has to run.

        Raises SpawnFailed when a port can't be bound or a program can't be executed.
        """
        pod = running.pod
        running.log = self._open_log(running, container.name)
        if self._containers.start(self.as_running(running), container):
            ran = self._containers.program(running.namespace, container.name)
            if ran is None and kind_of(container) == "command":
                raise SpawnFailed(f"{running.namespace.name}: {container.name}: its command can't be executed")
            return
        what = program(container)
        # A kernel without SCTP can't listen; the pod serves its other ports.
        ports = dict.fromkeys((port.port, port.protocol) for port in what.ports if listens(port.protocol))
        if not ports:
            return
        config = ServerConfig(
            pod=pod.meta.name,
            listeners=tuple(Listener(port, protocol) for port, protocol in ports),
            namespace=pod.meta.namespace,
            node=self.name,
            image=container.image,
            style=what.style,
            startup_delay_s=what.startup_s,
            shutdown_delay_s=what.shutdown_s,
        )
        self.serve(running, container.name, config)

    def _open_log(self, running: PodOnNode, container: str) -> str:
        """The file of a container's new run, where the kubelet has it: a folder a container, a file a run."""
        logs = running.logs.setdefault(container, [])
        meta = running.pod.meta
        folder = f"/var/log/pods/{meta.namespace}_{meta.name}_{meta.uid}"
        path = self.namespace.path(f"{folder}/{container}/{len(logs)}.log")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _appending(path):
            logs.append(path)
        self.log_opened(running.pod.meta.uid, container, path)
        return path

    def process(self, running: PodOnNode, container: str) -> int | None:
        """The process that a container runs, None when there is none."""
        ran = self._containers.program(running.namespace, container)
        return ran.pid if ran is not None else running.servers.get(container)

    def settle(self) -> None:
        """Wait until the programs that were started listen, or have said why they do not."""
        self._containers.settle()

    def as_running(self, running: PodOnNode) -> RunningPod:
        """A pod as the container runtime sees it."""
        place = Place(running.ips, self.name, self.node.addresses[0] if self.node.addresses else "")
        return RunningPod(running.pod, running.namespace, place, running.log)

    def ended(self, pid: int) -> int | None:
        """The exit code of a container's process, minus the number of the signal that ended it; None while it runs."""
        return self._zygote.ended(pid)

    def serve(self, running: PodOnNode, container: str, config: ServerConfig) -> None:
        """Run a server in the pod in place of the container's earlier one."""
        self.stop_server(running, container)
        with _appending(running.log) as log:
            running.servers[container] = self._zygote.server(
                f"{running.namespace.name}: {container}", running.namespace.pid, config.to_mapping(), log
            )

    def stop_server(self, running: PodOnNode, container: str) -> None:
        """Kill a container's program or server, if there is one."""
        self._containers.stop(running.namespace, container)
        pid = running.servers.pop(container, None)
        if pid is not None:
            _kill(pid)

    def detach(self, keys: Sequence[tuple[str, str]]) -> None:
        """Stop the pods' servers, run CNI DEL, end their holders.  Raises CniError when a plugin fails."""
        going = [self.pods.pop(key) for key in keys if key in self.pods]
        for running in going:
            for container in (*running.pod.init_containers, *running.pod.containers):
                self.stop_server(running, container.name)
        if not going:
            return
        self._past_ips.update(ip for running in going for ip in running.ips)
        results = {running.attachment.container_id: running.result for running in going}
        errors = CniRuntime().delete([running.attachment for running in going], results)
        for running in going:
            self._end_holder(running.namespace, running.attachment)
        if errors:
            raise errors[0]

    def forget(self, sandbox: PodSandbox) -> None:
        """Take the namespaces of a pod away that got no interface."""
        self._end_holder(sandbox.namespace, sandbox.attachment)

    def _end_holder(self, namespace: Namespace, attachment: Attachment) -> None:
        _kill(namespace.pid)
        self.namespace.run(["ip", "netns", "delete", attachment.netns.rpartition("/")[2]])

    def finish_routed(self, sandbox: PodSandbox, result: CniResult) -> None:
        """What ptp leaves open for a pod with an address of its own: its default route, and who its gateway is.

        The plugin gives the gateway's address to the node's end of the link, and then the node would masquerade with
        it.  As Calico does it, the node answers for that address by proxy ARP instead, without having it.
        """
        link = Netlink(sandbox.namespace)
        link.route("default", via=result.gateway, device=sandbox.attachment.interface)
        link.close()
        if ":" in result.gateway:
            return
        for interface, address, prefix in self.machine.netlink.addresses():
            if address == result.gateway:
                # With the address goes the route to the pod, which preferred it as source.
                self.machine.netlink.remove_address(interface, f"{address}/{prefix}")
                self.machine.netlink.route(f"{sandbox.pod.requested_ip}/32", device=interface)
                knobs = {f"net.ipv4.conf.{interface}.proxy_arp": 1, f"net.ipv4.neigh.{interface}.proxy_delay": 0}
                write_sysctls(self.namespace, knobs)

    def met_again(self, running: PodOnNode) -> None:
        """Have the node and its pods ask for an address anew that another pod had before.

        The plugin announces it too (gratuitous ARP), which the kernel takes for noise within a second of the last news.
        """
        for ip in self._past_ips.intersection(running.ips):
            self.machine.netlink.forget_neighbour(ip)
            for other in self.pods.values():
                link = Netlink(other.namespace)
                link.forget_neighbour(ip)
                link.close()

    # kube-proxy

    def serve_health(self, services: Sequence[Service], local_endpoints: Mapping[str, int]) -> None:
        """Open the healthCheckNodePort of each Service that has one, close those of Services that went."""
        self._synced = time.time()
        self._local_endpoints = dict(local_endpoints)
        wanted = {s.health_check_node_port: s for s in services if s.health_check_node_port}
        self._health_checked = wanted
        for port in list(self._health):
            if port != health.KUBE_PROXY_HEALTHZ_PORT and port not in wanted:
                self._health.pop(port).close()
        for port in wanted:
            if port not in self._health:
                where = self._health_addresses()
                self._health[port] = health.HealthServer(
                    self._loop, self.namespace, port, partial(self._service_health, port), where
                )

    def _health_addresses(self) -> tuple[str, ...]:
        """Where healthCheckNodePorts listen: where node ports do; () is everywhere."""
        config = self.proxy.config
        found = [config.node_port_ips(self.node, family) for family in families_of(self.node)]
        return () if None in found else tuple(address for each in found for address in each or ())

    def _service_health(self, port: int, _path: str) -> health.Answer:
        service = self._health_checked[port]
        count = self._local_endpoints.get(service.key, 0)
        return health.service_health(service.meta.namespace, service.meta.name, count, self.healthy)


@dataclass(frozen=True, slots=True)
class PodSandbox:
    """A pod whose namespaces exist and whose interface does not yet."""

    agent: NodeAgent
    pod: Pod
    namespace: Namespace
    attachment: Attachment


def attach(sandboxes: Sequence[PodSandbox]) -> tuple[list[PodOnNode], list[tuple[PodSandbox, CniError | InputError]]]:
    """Run CNI ADD for pods of any nodes, all at once; those that came are registered, those that failed taken away."""
    results = CniRuntime().add([sandbox.attachment for sandbox in sandboxes])
    done: list[PodOnNode] = []
    failed: list[tuple[PodSandbox, CniError | InputError]] = []
    for sandbox in sandboxes:
        agent, pod = sandbox.agent, sandbox.pod
        result = results[sandbox.attachment.container_id]
        if isinstance(result, CniError):
            failed.append((sandbox, result))
            agent.forget(sandbox)
            continue
        if pod.requested_ip and pod.requested_ip not in result.ips:
            message = (
                f"{pod.origin}: pod {pod.meta.name}: annotation hoplab.dev/ip asks for {pod.requested_ip},"
                f" the network plugin gave {', '.join(result.ips)}"
            )
            failed.append((sandbox, InputError(message)))
            CniRuntime().delete([sandbox.attachment], {sandbox.attachment.container_id: result})
            agent.forget(sandbox)
            continue
        offloads_off(sandbox.namespace, [sandbox.attachment.interface])
        sandbox.namespace.write("/etc/hosts", pod_hosts(pod, result.ips))
        if sandbox.attachment.config.name == ROUTED:
            agent.finish_routed(sandbox, result)
        placed = replace(pod, node_name=agent.name)
        running = PodOnNode(placed, sandbox.namespace, sandbox.attachment, result)
        agent.pods[pod.meta.namespace, pod.meta.name] = running
        agent.met_again(running)
        done.append(running)
    for agent in {id(s.agent): s.agent for s in sandboxes}.values():
        agent.quiet_offloads()
    return done, failed


@contextmanager
def _appending(path: str) -> Iterator[int]:
    """A log file's descriptor, for as long as the block."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        yield log
    finally:
        os.close(log)


def _kill(pid: int) -> None:
    """End a process that the lab started, whether or not it has ended by itself; all of its group when it leads one."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
