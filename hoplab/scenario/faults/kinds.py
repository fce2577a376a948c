"""What a fault is, and the lab that faults are put into.

The lab has two nodes.  On `near` nobody serves `service`; on `far` one pod does.  So a
packet that enters by `near` needs everything that can break: rules that choose, a
rewrite, the way between nodes, and the way back.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from hoplab.hops.reason import Cause
from hoplab.scenario.lab import Lab
from hoplab.scenario.sent import Sent

WAIT_S = 0.3
"""How long a probe that is expected to fail waits."""


@dataclass(frozen=True, slots=True)
class Where:
    """The names in the lab that a fault needs; pods and Services are in the namespace `default`."""

    near: str = "node1"
    far: str = "node2"
    service: str = "shop"
    """A LoadBalancer Service with one pod, on the far node."""
    pod: str = "shop-1"
    local: str = "shop-local"
    """The same pod behind externalTrafficPolicy Local."""
    many: str = "web"
    """A Service with two pods on the near node and one on the far one, named after it."""
    own: str = "echo"
    """A pod on the near node, the only one of a Service of the same name."""
    asker: str = "guest"
    """A pod on the near node that serves nothing."""
    udp: str = "dns"
    """A Service on UDP 53; its pods are called after it, `dns-1` is there from the beginning, on the far node."""
    by_hand: str = "elsewhere"
    """A Service without a selector."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What was really done, for whoever judges an explanation, and how a user comes upon it."""

    cause: Cause
    node: str
    """Where it was done; of two namespaces that are at fault together 'A and B'."""
    about: tuple[str, ...]
    """Words of which the object of the explanation holds every one."""
    send: Callable[[], Sent]
    """Send what fails because of it."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that is in the lab; `undo` takes it out again."""

    fault: Fault
    truth: Truth
    undo: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by its name; `number` is its place in the course's list of faults, 0 for one that is not on it."""

    name: str
    number: int
    notice: str
    """What a user notices."""
    make: Callable[[Lab, Where], AbstractContextManager[Truth]]

    def inject(self, lab: Lab, where: Where) -> Injected:
        """Put it in.  Raises CommandFailed or NetlinkFailed where the lab lacks what it needs."""
        stack = ExitStack()
        truth = stack.enter_context(self.make(lab, where))
        return Injected(self, truth, stack.close)


def fault(name: str, number: int, notice: str) -> Callable[[Callable[[Lab, Where], Iterator[Truth]]], Fault]:
    """Make a generator (break, yield the truth, repair) a Fault."""

    def made(generator: Callable[[Lab, Where], Iterator[Truth]]) -> Fault:
        return Fault(name, number, notice, contextmanager(generator))

    return made


def ask_service(lab: Lab, where: Where, service: str = "") -> Callable[[], Sent]:
    """The pod on the near node asks the Service at its cluster IP."""

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(service or where.service).at_cluster_ip()
            return lab.host(f"pod/{where.asker}").send_tcp(to, deadline_s=WAIT_S)

    return send


def ask_node_port(lab: Lab, where: Where) -> Callable[[], Sent]:
    """The client asks the near node's port."""

    def send() -> Sent:
        with lab.beyond_the_model():
            port = lab.service(where.service).node_port
            return lab.host("client").send_tcp(lab.node(where.near), port, deadline_s=WAIT_S)

    return send


def until_lost(lab: Lab, sender: str, service: str, most: int = 24) -> Callable[[], Sent]:
    """Send until one of the flows is not answered; the last one of `most` in any case."""

    def send() -> Sent:
        with lab.beyond_the_model():
            for _number in range(most):
                sent = lab.host(sender).send_tcp(lab.service(service).at_cluster_ip(), deadline_s=WAIT_S)
                if sent.flow.outcome != "accepted":
                    break
            return sent

    return send


def free_address(lab: Lab, node: str, number: int = 0) -> str:
    """An address of the node's pod subnet that nobody has: the last one, the last but one (1), ...

    The node has asked for none of them lately either: for seconds it would tell those who ask that nobody answered.
    """
    taken = {address for running in lab.cluster.running() for address in running.ips}
    neighbours = json.loads(lab.node(node).namespace.run(["ip", "-j", "neighbour"]).stdout or "[]")
    taken |= {str(one["dst"]) for one in neighbours}
    network = ipaddress.ip_network(lab.node(node).node.pod_cidrs[0])
    free = (str(one) for one in reversed(list(network.hosts())) if str(one) not in taken)
    return next(itertools.islice(free, number, None))


def reload_rules(lab: Lab, *nodes: str) -> None:
    """Have kube-proxy load all of its rules anew on these nodes."""
    for node in nodes:
        lab.node(node).proxy.forget()
    lab.converge()


def pod_yaml(name: str, app: str, node: str, address: str = "", port: str = "{containerPort: 80}") -> str:
    """A pod that serves one port."""
    annotations = f", annotations: {{hoplab.dev/ip: {address}}}" if address else ""
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}{annotations}}}\n"
        f"spec:\n  nodeName: {node}\n  containers: [{{name: web, image: hoplab/whoami, ports: [{port}]}}]\n"
    )


def service_yaml(name: str, spec: str) -> str:
    """A Service."""
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def shop_service(where: Where, target_port: int = 80) -> str:
    """The Service with one pod."""
    return service_yaml(
        where.service,
        f"type: LoadBalancer, selector: {{app: {where.service}}}, ports: [{{port: 80, targetPort: {target_port}}}]",
    )


def manifest(where: Where) -> str:
    """The objects of the lab that faults are put into."""
    udp = "{containerPort: 53, protocol: UDP}"
    documents = [
        pod_yaml(where.pod, where.service, where.far),
        shop_service(where),
        service_yaml(
            where.local,
            f"type: LoadBalancer, externalTrafficPolicy: Local, selector: {{app: {where.service}}},"
            " ports: [{port: 80}]",
        ),
        *(
            pod_yaml(f"{where.many}-{n}", where.many, node)
            for n, node in ((1, where.near), (2, where.near), (3, where.far))
        ),
        service_yaml(where.many, f"selector: {{app: {where.many}}}, ports: [{{port: 80}}]"),
        pod_yaml(where.own, where.own, where.near),
        service_yaml(where.own, f"selector: {{app: {where.own}}}, ports: [{{port: 80}}]"),
        pod_yaml(where.asker, where.asker, where.near),
        pod_yaml(f"{where.udp}-1", where.udp, where.far, port=udp),
        service_yaml(where.udp, f"selector: {{app: {where.udp}}}, ports: [{{port: 53, protocol: UDP}}]"),
        service_yaml(where.by_hand, "ports: [{port: 80}]"),
    ]
    return "---\n".join(documents)
