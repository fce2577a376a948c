"""Faults of pods, of endpoints, and of the bridge that pods hang on."""

from __future__ import annotations

from collections.abc import Iterator

from hoplab.cluster.podnetworks import cloud_cni_config
from hoplab.net.netlink import write_sysctls
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.scenario.faults.kinds import (
    WAIT_S,
    Fault,
    Truth,
    Where,
    ask_service,
    fault,
    free_address,
    pod_yaml,
    shop_service,
)
from hoplab.scenario.lab import Lab
from hoplab.scenario.sent import Sent
from hoplab.watch.asking import listening

BRIDGE_NF = "net.bridge.bridge-nf-call-iptables"


def _slice(where: Where, *addresses: str) -> str:
    endpoints = ", ".join(f"{{addresses: [{address}], conditions: {{ready: true}}}}" for address in addresses)
    return (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        f"metadata: {{name: {where.by_hand}-1, labels: {{kubernetes.io/service-name: {where.by_hand}}}}}\n"
        f"addressType: IPv4\nports: [{{port: 80, protocol: TCP}}]\nendpoints: [{endpoints}]\n"
    )


@fault("dead-endpoint", 4, "a part of the requests hangs")
def dead_endpoint(lab: Lab, where: Where) -> Iterator[Truth]:
    """An endpoint's address belongs to nobody."""
    dead = free_address(lab, where.far)
    lab.apply(_slice(where, dead))
    yield Truth("no-arp-answer", where.far, (dead, f"default/{where.by_hand}"), ask_service(lab, where, where.by_hand))
    lab.delete_slices(where.by_hand)


@fault("hairpin-off", 7, "a pod reaches its own Service only when another pod is chosen")
def hairpin_off(lab: Lab, where: Where) -> Iterator[Truth]:
    """The bridge's ports are not in hairpin mode."""
    _hairpin(lab, where.near, "off")

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(where.own).at_cluster_ip()
            return lab.host(f"pod/{where.own}").send_tcp(to, deadline_s=WAIT_S)

    yield Truth("hairpin-off", where.near, (f"default/{where.own}",), send)
    _hairpin(lab, where.near, "on")


def _hairpin(lab: Lab, node: str, mode: str) -> None:
    namespace = lab.node(node).namespace
    for line in namespace.run(["bridge", "link", "show"]).stdout.splitlines():
        port = line.split()[1].partition("@")[0].rstrip(":")
        namespace.run(["bridge", "link", "set", "dev", port, "hairpin", mode])


def _serve(lab: Lab, where: Where, listener: Listener) -> None:
    agent, running = lab.node(where.far), lab.pod(where.pod)
    container = running.pod.containers[0].name
    agent.stop_server(running, container)
    free = f"port {listener.port} of {running.namespace.name} to be free"
    lab.observer.run_until(lambda: not list(listening(running.namespace)), 5, free)
    agent.serve(running, container, ServerConfig(where.pod, (listener,), node=where.far))


@fault("wrong-target-port", 11, "the connection is refused")
def wrong_target_port(lab: Lab, where: Where) -> Iterator[Truth]:
    """The Service names a port that the pod does not listen on."""
    lab.apply(shop_service(where, 8080))
    yield Truth("port-closed", f"pod/{where.pod}", (f"default/{where.service}", ":8080"), ask_service(lab, where))
    lab.apply(shop_service(where))


@fault("bound-to-localhost", 11, "the connection is refused")
def bound_to_localhost(lab: Lab, where: Where) -> Iterator[Truth]:
    """The program listens on 127.0.0.1 only."""
    _serve(lab, where, Listener(80, "TCP", "127.0.0.1"))
    yield Truth("port-closed", f"pod/{where.pod}", (f"default/{where.service}",), ask_service(lab, where))
    _serve(lab, where, Listener(80, "TCP"))


@fault("same-subnet", 12, "now and then the wrong pod answers")
def same_subnet(lab: Lab, where: Where) -> Iterator[Truth]:
    """The far node gives its pods addresses of the near node's subnet."""
    agent, near = lab.node(where.far), lab.node(where.near).node
    subnet = near.pod_cidrs[0]
    taken = lab.pod(where.own).ips[0]
    route = next(one for one in agent.machine.netlink.routes() if one.destination == subnet)
    mtu = agent.machine.netlink.links()["cni0"]["mtu"]
    again = cloud_cni_config((subnet,), mtu).replace('"cni0"', '"cni1"')
    lab.use_network(where.far, "05-again.conflist", again)
    lab.apply(pod_yaml("twin", "twin", where.far, taken))
    # What such a node takes for its own subnet it has no other route for.
    agent.namespace.run(["ip", "route", "del", subnet, "dev", route.device])

    def send() -> Sent:
        with lab.beyond_the_model():
            return lab.host(f"pod/{where.pod}").send_tcp(taken, 80, deadline_s=WAIT_S)

    yield Truth("duplicate-address", f"{where.near} and {where.far}", (taken,), send)
    lab.delete_pod("twin")
    agent.namespace.run(["rm", "/etc/cni/net.d/05-again.conflist"])
    link = agent.machine.netlink
    link.delete_link("cni1")
    link.route(subnet, via=route.via, device=route.device, onlink=route.device.startswith("flannel"))


@fault("bridge-netfilter-off", 14, "a Service works only if its pod is on another node")
def bridge_netfilter_off(lab: Lab, where: Where) -> Iterator[Truth]:
    """What a bridge carries from port to port does not meet the rules."""
    node = lab.node(where.near).namespace
    write_sysctls(node, {BRIDGE_NF: 0})
    yield Truth("bridge-netfilter-off", where.near, (f"default/{where.own}",), ask_service(lab, where, where.own))
    write_sysctls(node, {BRIDGE_NF: 1})


STALE_PORT = 47053


@fault("stale-conntrack", 16, "old clients are not answered, new ones are")
def stale_conntrack(lab: Lab, where: Where) -> Iterator[Truth]:
    """A UDP server was replaced, and connection tracking still leads to the old one."""
    proxies = [agent.proxy for agent in lab.cluster.nodes.values()]
    old = next(r for r in lab.cluster.running() if r.pod.meta.labels.get("app") == where.udp)
    gone, number = old.ips[0], int(old.pod.meta.name.rpartition("-")[2])

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(where.udp).at_cluster_ip()
            return lab.host(f"pod/{where.asker}").send_udp(to, source_port=STALE_PORT, deadline_s=WAIT_S)

    send()
    for proxy in proxies:
        proxy.removes_stale_entries = False
    port = "{containerPort: 53, protocol: UDP}"
    lab.apply(pod_yaml(f"{where.udp}-{number + 1}", where.udp, where.far, free_address(lab, where.far), port))
    lab.delete_pod(old.pod.meta.name)
    yield Truth("stale-conntrack", where.near, (gone,), send)
    for proxy in proxies:
        proxy.removes_stale_entries = True
    for name in lab.cluster.nodes:
        for entry in lab.conntrack(name):
            if entry.reply.src == gone:
                lab.observer.delete_conntrack(entry)


FAULTS: tuple[Fault, ...] = (
    dead_endpoint,
    hairpin_off,
    wrong_target_port,
    bound_to_localhost,
    same_subnet,
    bridge_netfilter_off,
    stale_conntrack,
)
