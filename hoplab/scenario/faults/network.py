"""Faults of routes, interfaces and sysctls: what lies below the rules.

Each is a generator that does the damage, yields the truth about it (which cause, on which node, about what), and
takes the damage back when it is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator

from hoplab.net.namespaces import Namespace
from hoplab.net.netlink import Netlink, write_sysctls
from hoplab.scenario.faults.kinds import WAIT_S, Fault, Truth, Where, ask_service, fault, free_address
from hoplab.scenario.lab import Lab
from hoplab.scenario.sent import Sent


def _route_to(lab: Lab, node: str, cidr: str) -> tuple[str, str, bool]:
    """(gateway, device, onlink) of a node's route to a subnet."""
    entry = next(one for one in lab.node(node).machine.netlink.routes() if one.destination == cidr)
    return entry.via, entry.device, entry.device.startswith("flannel")


@fault("route-missing", 1, "pods of one node answer, those of the other node do not")
def route_missing(lab: Lab, where: Where) -> Iterator[Truth]:
    """The near node loses its route to the far node's pods."""
    cidr = lab.node(where.far).node.pod_cidrs[0]
    via, device, onlink = _route_to(lab, where.near, cidr)
    link = lab.node(where.near).machine.netlink
    link.remove_route(cidr)
    yield Truth("no-route", where.near, (where.pod,), ask_service(lab, where))
    link.route(cidr, via=via, device=device, onlink=onlink)


@fault("forwarding-off", 2, "pods of one node can't be reached from outside it")
def forwarding_off(lab: Lab, where: Where) -> Iterator[Truth]:
    """The far node is no router any more."""
    namespace = lab.node(where.far).namespace
    write_sysctls(namespace, {"net.ipv4.ip_forward": 0})
    yield Truth("forwarding-off", where.far, ("net.ipv4.ip_forward",), ask_service(lab, where))
    write_sysctls(namespace, {"net.ipv4.ip_forward": 1})


@fault("reverse-path", 8, "packets that were rewritten vanish without a trace")
def reverse_path(lab: Lab, where: Where) -> Iterator[Truth]:
    """The far node filters by reverse path, and its way to the near node's pods is another one than theirs to it."""
    agent = lab.node(where.far)
    cidr = lab.node(where.near).node.pod_cidrs[0]
    via, device, onlink = _route_to(lab, where.far, cidr)
    write_sysctls(agent.namespace, {"net.ipv4.conf.all.rp_filter": 1})
    agent.machine.netlink.route(cidr, device="cni0")
    yield Truth("reverse-path", where.far, ("rp_filter",), ask_service(lab, where))
    agent.machine.netlink.remove_route(cidr)
    agent.machine.netlink.route(cidr, via=via, device=device, onlink=onlink)
    write_sysctls(agent.namespace, {"net.ipv4.conf.all.rp_filter": 0})


LARGE = 4000
"""Bytes of a request that needs several full segments."""


@fault("mtu", 13, "small requests are answered, large ones hang")
def mtu(lab: Lab, where: Where) -> Iterator[Truth]:
    """Pods send more than the way takes, and the ICMP error that would tell them is dropped."""
    overlay = lab.cluster.options.fabric == "vxlan"
    near = lab.node(where.near)
    pods = [lab.pod(where.asker), lab.pod(where.pod)]
    # In an overlay the pods' interfaces are too large for it; else the near node's uplink is smaller than they are.
    if overlay:
        before = _set_mtus(lab, where, 1500)
        narrow = "flannel.1"
    else:
        near.machine.netlink.set_link("eth0", mtu=1400)
        narrow = "eth0"
    for running in pods:
        lab.prober.forget(running.namespace.name)
    drop = ["-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP"]
    near.namespace.run(["iptables", "-I", "OUTPUT", *drop])

    def send() -> Sent:
        with lab.beyond_the_model():
            return lab.host(f"pod/{where.asker}").send_tcp(
                lab.pod(where.pod), 80, size=LARGE, retries=1, deadline_s=0.8
            )

    yield Truth("mtu", where.near, (narrow,), send)
    near.namespace.run(["iptables", "-D", "OUTPUT", *drop])
    if overlay:
        _set_mtus(lab, where, before)
    else:
        near.machine.netlink.set_link("eth0", mtu=1500)
    for running in pods:
        lab.prober.forget(running.namespace.name)


def _set_mtus(lab: Lab, where: Where, size: int) -> int:
    """Give both pods' links, at both ends, and the bridges this MTU; the one that they had."""
    before = 0
    for node, name in ((where.near, where.asker), (where.far, where.pod)):
        link = lab.node(node).machine.netlink
        for interface, found in link.links().items():
            if interface == "cni0" or (found["kind"] == "veth" and interface != "eth0"):
                link.set_link(interface, mtu=size)
        inside = Netlink(lab.pod(name).namespace)
        before = inside.links()["eth0"]["mtu"]
        inside.set_link("eth0", mtu=size)
        inside.close()
    return before


def _default_route(namespace: Namespace) -> str:
    link = Netlink(namespace)
    try:
        return next(one.via for one in link.routes() if one.destination == "0.0.0.0/0" and one.via)
    finally:
        link.close()


def _set_default(namespace: Namespace, via: str) -> None:
    link = Netlink(namespace)
    try:
        link.route("default", via=via)
    finally:
        link.close()


@fault("wrong-gateway", 19, "a pod answers its neighbours and nobody else")
def wrong_gateway(lab: Lab, where: Where) -> Iterator[Truth]:
    """A pod's default route names an address that nobody has."""
    namespace = lab.pod(where.pod).namespace
    before = _default_route(namespace)
    nobody = free_address(lab, where.far)
    _set_default(namespace, nobody)
    yield Truth("wrong-gateway", f"pod/{where.pod}", (nobody,), ask_service(lab, where))
    _set_default(namespace, before)


@fault("gateway-is-a-pod", 0, "a pod answers its neighbours and nobody else")
def gateway_is_a_pod(lab: Lab, where: Where) -> Iterator[Truth]:
    """A pod's default route names another pod, which forwards nothing."""
    namespace = lab.pod(where.pod).namespace
    before = _default_route(namespace)
    other = lab.pod(f"{where.many}-3")
    _set_default(namespace, other.ips[0])
    yield Truth("wrong-gateway", f"pod/{where.pod}", (f"{where.many}-3",), ask_service(lab, where))
    _set_default(namespace, before)


@fault("no-way-back", 0, "a pod answers its neighbours and nobody else")
def no_way_back(lab: Lab, where: Where) -> Iterator[Truth]:
    """A pod has no default route."""
    namespace = lab.pod(where.pod).namespace
    before = _default_route(namespace)
    link = Netlink(namespace)
    link.remove_route("default")
    yield Truth("no-route", f"pod/{where.pod}", (where.pod,), ask_service(lab, where))
    link.close()
    _set_default(namespace, before)


@fault("cable-pulled", 0, "a node is dead, and its pods with it")
def cable_pulled(lab: Lab, where: Where) -> Iterator[Truth]:
    """The far node's uplink is down at the switch."""
    switch = next(s for s in lab.cluster.net.switches if s.name == "nodenet")
    far = lab.node(where.far).machine
    port = next(
        (one if one.node is switch else other).name
        for link in lab.cluster.net.links
        for one, other in ((link.intf1, link.intf2), (link.intf2, link.intf1))
        if one.node is switch and other.node is far
    )
    switch.netlink.up(port, False)
    yield Truth("link-down", where.far, ("eth0",), ask_service(lab, where))
    switch.netlink.up(port, True)
    # The kernel may take up to a second to declare the link operational.
    lab.observer.run_until(lambda: switch.netlink.links()[port]["carrier"], 5, f"the carrier of {port}")
    for machine in lab.cluster.net.hosts:
        machine.netlink.forget_neighbour(lab.node(where.far).node.addresses[0])


@fault("loop", 0, "the sender is told that time ran out")
def loop(lab: Lab, where: Where) -> Iterator[Truth]:
    """Two routers send the same destination to each other."""
    router, balancer = (lab.cluster.net[name] for name in ("router", "lb"))
    target, target_address = "192.0.2.0/24", "192.0.2.7"
    router.netlink.route(target, via="203.0.113.2")
    balancer.netlink.route(target, via="203.0.113.1")

    def send() -> Sent:
        with lab.beyond_the_model():
            return lab.host("client").send_tcp(target_address, 80, ttl=9, deadline_s=WAIT_S)

    yield Truth("ttl", "lb and router", (target_address,), send)
    router.netlink.remove_route(target)
    balancer.netlink.remove_route(target)


@fault("queue-full", 0, "some packets of a busy link are lost")
def queue_full(lab: Lab, where: Where) -> Iterator[Truth]:
    """The far node's uplink is shaped so narrowly that a whole packet never fits."""
    namespace = lab.node(where.far).namespace
    shaped = ["rate", "8kbit", "burst", "70", "limit", "70"]
    namespace.run(["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *shaped])
    yield Truth("queue-full", where.far, ("eth0",), ask_service(lab, where))
    namespace.run(["tc", "qdisc", "del", "dev", "eth0", "root"])


FAULTS: tuple[Fault, ...] = (
    route_missing,
    forwarding_off,
    reverse_path,
    mtu,
    wrong_gateway,
    gateway_is_a_pod,
    no_way_back,
    cable_pulled,
    loop,
    queue_full,
)
