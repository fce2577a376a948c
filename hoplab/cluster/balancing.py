"""The cloud controller in small: gives LoadBalancer Services a balancer, and the balancer its candidates.

Which nodes are candidates is decided by asking each of them over the network, from
the balancer, every time: a node that does not answer 200 gets no new flow.  In mode
proxy it is HAProxy that asks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hoplab.cluster.health import KUBE_PROXY_HEALTHZ_PORT, Finding, HealthChecker, Target
from hoplab.cluster.options import ClusterOptions
from hoplab.cluster.proxying import ADMIN, HAProxy, ServerState
from hoplab.dataplane.balancer import (
    Backend,
    Balancer,
    Frontend,
    balancer_changes,
    balancer_text,
    frontend_name,
    local_addresses,
    policy_routes,
)
from hoplab.dataplane.haproxy import haproxy_config
from hoplab.errors import HoplabError, InputError
from hoplab.kube.types import Node, Service
from hoplab.net.loop import Loop
from hoplab.net.machines import Machine
from hoplab.net.namespaces import CommandFailed
from hoplab.net.timers import Timers
from hoplab.net.zygote import Zygote

UNHEALTHY_AFTER = 2
"""Failed checks in a row after which a lab that stays takes a node out, as clouds' health checks have a threshold."""


class BalancerFailed(HoplabError):
    """The balancer could not be set up; str() says at which step."""


def health_target(service: Service, node: Node) -> Target:
    """Where a balancer asks whether this node may get flows of this Service (pure).

    Policy Local: the Service's healthCheckNodePort.  Cluster: kube-proxy's healthz.
    """
    if service.external_traffic_policy == "Local" and service.health_check_node_port:
        return Target(node.name, node.addresses[0], service.health_check_node_port, "/healthz")
    return Target(node.name, node.addresses[0], KUBE_PROXY_HEALTHZ_PORT, "/healthz")


def frontends(
    services: Sequence[Service], nodes: Sequence[Node], healthy: Mapping[Target, bool], mode: str
) -> tuple[Frontend, ...]:
    """A frontend for each address and port of each LoadBalancer Service, with the nodes that may get its flows (pure).

    Mode nat and proxy send to the node port; passthrough keeps address and port.  A proxy takes TCP only, and asks
    every node itself, but for those that `healthy` names already.
    """
    found = []
    for service in services:
        if service.type != "LoadBalancer":
            continue
        targets = {node.name: health_target(service, node) for node in nodes}
        candidates = [node for node in nodes if mode == "proxy" or healthy.get(targets[node.name], False)]
        for ingress in service.load_balancer_ingress:
            for port in service.ports:
                if mode == "proxy" and port.protocol != "TCP":
                    continue
                where = port.port if mode == "passthrough" else port.node_port
                backends = tuple(
                    Backend(node.name, address, where, _check_port(mode, targets[node.name], healthy))
                    for node in candidates
                    if where and (address := _of_family(node, ingress.ip))
                )
                label = f"{service.key}:{port.name}" if port.name else service.key
                found.append(Frontend(ingress.ip, port.port, port.protocol, label, backends))
    return tuple(found)


def _check_port(mode: str, target: Target, healthy: Mapping[Target, bool]) -> int:
    return target.port if mode == "proxy" and not healthy.get(target, False) else 0


def unproxied(services: Sequence[Service]) -> list[str]:
    """What a balancer that ends connections leaves out, in words: ports of other protocols than TCP (pure).

    Raises InputError for a LoadBalancer Service that has no TCP port at all.  (KEP-1435 leaves a balancer the choice
    to serve those ports of a Service that it can, and to say so of the others.)
    """
    words = []
    for service in services:
        others = [port for port in service.ports if port.protocol != "TCP"]
        if service.type != "LoadBalancer" or not others:
            continue
        listed = ", ".join(f"{port.port}/{port.protocol}" for port in others)
        if len(others) == len(service.ports):
            raise InputError(
                f"{service.origin}: Service {service.key}: --balancer-mode proxy ends TCP connections and knows no"
                f" other protocol, so {listed} can't be balanced; use --balancer-mode nat or passthrough"
            )
        words.append(f"{service.origin}: Service {service.key}: the proxying balancer takes TCP only, not {listed}")
    return words


def _of_family(node: Node, like: str) -> str:
    """The node's address of the same family, '' when it has none."""
    return next((address for address in node.addresses if (":" in address) == (":" in like)), "")


class BalancerAgent:
    """The balancer's machine: health checks, rules, routes, HAProxy."""

    def __init__(self, machine: Machine, options: ClusterOptions, loop: Loop, zygote: Zygote) -> None:
        self.machine, self._options = machine, options
        self._checker = HealthChecker(loop, machine.namespace)
        self._haproxy = HAProxy(machine.namespace, zygote, loop)
        self.warnings: dict[str, None] = {}
        """What it can't do of what was asked, each once."""
        self._loaded: Balancer | None = None
        self._checking = False
        self._failed: dict[Target, int] = {}
        """How often each target failed in a row."""
        self.findings: tuple[Finding, ...] = ()
        """What the last round of health checks found."""
        self.always_healthy = False
        """A lesson's fault: take every node for healthy without listening to it."""

    def sync(self, services: Sequence[Service], nodes: Sequence[Node], timeout_s: float = 1.0) -> bool:
        """Ask every node, then load what follows from the answers; whether anything changed.

        Raises CommandFailed with nft's words; in mode proxy InputError, and what `HAProxy.load` raises.
        """
        if self._options.mode == "proxy":
            return self._proxy(services, nodes)
        self.findings = tuple(self._checker.ask(self._targets(services, nodes), timeout_s))
        return self._follow(services, nodes)

    def check(
        self,
        services: Sequence[Service],
        nodes: Sequence[Node],
        timers: Timers,
        timeout_s: float,
        done: Callable[[Exception | None], None],
    ) -> None:
        """As `sync`, without waiting: the nodes are asked, and followed when they have answered; then `done`.

        `done` is given what failed, None when nothing did.  A second call while one is under way does nothing.
        """
        if self._options.mode == "proxy":
            self._look_after_haproxy(services, nodes)
            done(None)
            return
        if self._checking:
            return
        self._checking = True

        def answered(findings: Sequence[Finding]) -> None:
            self._checking, self.findings = False, tuple(map(self._believed, findings))
            try:
                self._follow(services, nodes)
            except (CommandFailed, OSError) as error:
                done(error)
            else:
                done(None)

        self._checker.begin(self._targets(services, nodes), timeout_s, timers, answered)

    def _believed(self, finding: Finding) -> Finding:
        """A node that was well is taken for sick when it failed often enough in a row."""
        failed = 0 if finding.healthy else self._failed.get(finding.target, UNHEALTHY_AFTER) + 1
        self._failed[finding.target] = failed
        if 0 < failed < UNHEALTHY_AFTER:
            return replace(finding, healthy=True, detail=f"{finding.detail} ({failed} of {UNHEALTHY_AFTER})")
        return finding

    @staticmethod
    def _targets(services: Sequence[Service], nodes: Sequence[Node]) -> list[Target]:
        wanted = [s for s in services if s.type == "LoadBalancer" and s.load_balancer_ingress]
        return [health_target(service, node) for service in wanted for node in nodes]

    def _follow(self, services: Sequence[Service], nodes: Sequence[Node]) -> bool:
        """Load what follows from the last findings; whether anything changed."""
        wanted = [s for s in services if s.type == "LoadBalancer" and s.load_balancer_ingress]
        healthy = {f.target: f.healthy or self.always_healthy for f in self.findings}
        now = Balancer(
            self._options.algorithm,
            self._options.mode,
            frontends(wanted, nodes, healthy, self._options.mode),
            inside=_inside(self._options.proxy.cluster_cidrs, nodes),
        )
        if now == self._loaded:
            return False
        if self._options.mode == "passthrough":
            for route in policy_routes(next(a for a in node.addresses if ":" not in a) for node in nodes):
                self.machine.netlink.rule(fwmark=route.mark, table=route.table, priority=1000)
                self.machine.netlink.route("default", via=route.via, table=route.table)
        for address in local_addresses(now):
            self.machine.netlink.address("lo", f"{address}/{128 if ':' in address else 32}")
        self._load(now)
        return True

    def _proxy(self, services: Sequence[Service], nodes: Sequence[Node]) -> bool:
        """Have HAProxy ask the nodes, of all that may get flows; whether its configuration or its answers changed."""
        before = (self._loaded, self.findings)
        self._run_haproxy(self._proxied(services, nodes))
        return before != (self._loaded, self.findings)

    def _look_after_haproxy(self, services: Sequence[Service], nodes: Sequence[Node]) -> None:
        """Hand HAProxy a configuration that changed, and take over what it found meanwhile by asking on its own."""
        now = self._proxied(services, nodes)
        if now != self._loaded:
            self._run_haproxy(now, wait=False)
        elif (states := self._haproxy.states()) is not None:
            self._found(states)

    def _proxied(self, services: Sequence[Service], nodes: Sequence[Node]) -> Balancer:
        self.warnings |= dict.fromkeys(unproxied(services))
        wanted = [s for s in services if s.type == "LoadBalancer" and s.load_balancer_ingress]
        trusted = dict.fromkeys(self._targets(services, nodes), True) if self.always_healthy else {}
        options = self._options
        return Balancer(options.algorithm, options.mode, frontends(wanted, nodes, trusted, options.mode))

    def _run_haproxy(self, now: Balancer, *, wait: bool = True) -> None:
        self._loaded = now
        if not now.frontends:
            self._haproxy.stop()
            self.findings = ()
            return
        for address in local_addresses(now):
            self.machine.netlink.address("lo", f"{address}/{128 if ':' in address else 32}")
        config = haproxy_config(now, send_proxy=self._options.proxy_protocol, admin=ADMIN)
        ports = tuple({frontend.port for frontend in now.frontends})
        if wait:
            self._found(self._haproxy.load(config, ports))
        else:
            self._haproxy.tell(config, ports)

    def _found(self, states: Mapping[tuple[str, str], ServerState]) -> None:
        """Take what HAProxy knows of its servers for findings."""
        found = {}
        for frontend in self._loaded.frontends if self._loaded else ():
            for backend in frontend.backends:
                state = states.get((frontend_name("frontend", frontend), backend.node))
                if state is not None:
                    target = Target(backend.node, backend.address, backend.check)
                    found[target] = Finding(target, state.up, state.detail)
        self.findings = tuple(found.values())

    def _load(self, now: Balancer) -> None:
        """Load what changed; all of it when the kernel's state is not what was loaded last."""
        text = balancer_changes(self._loaded, now)
        try:
            if text:
                self.machine.namespace.run(["nft", "-f", "-"], text)
        except CommandFailed:
            if self._loaded is None:
                raise
            self.machine.namespace.run(["nft", "-f", "-"], balancer_text(now))
        self._loaded = now

    def drop_candidate(self, node: str) -> None:
        """Load the present configuration without one node (a lesson's fault)."""
        if self._loaded is None:
            raise BalancerFailed("the balancer has no configuration yet")
        now = replace(
            self._loaded,
            frontends=tuple(
                replace(f, backends=tuple(b for b in f.backends if b.node != node)) for f in self._loaded.frontends
            ),
        )
        (self._run_haproxy if now.mode == "proxy" else self._load)(now)


def _inside(cluster_cidrs: Sequence[str], nodes: Sequence[Node]) -> tuple[str, ...]:
    """The networks of the cluster: what kube-proxy was told of pods (maybe nothing), their subnets, the nodes."""
    told = [ipaddress.ip_network(each, strict=False) for each in cluster_cidrs]
    subnets = [cidr for node in nodes for cidr in node.pod_cidrs if not _within(cidr, told)]
    addresses = [address for node in nodes for address in (*node.addresses, *node.extra_addresses)]
    return (*cluster_cidrs, *subnets, *(f"{each}/{128 if ':' in each else 32}" for each in addresses))


def _within(cidr: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    network = ipaddress.ip_network(cidr, strict=False)
    return any(
        other.version == network.version
        and int(other.network_address) <= int(network.network_address)
        and int(network.broadcast_address) <= int(other.broadcast_address)
        for other in networks
    )
