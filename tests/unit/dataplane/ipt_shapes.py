"""The shapes of Services whose iptables text is written out in tests/fixtures/rules/iptables.

Most are the shapes of the nftables fixtures, so that the two modes can be read side by side; the others concern what
only iptables mode has.  Names and addresses are those of kube-proxy's own tests, but for the shapes of Kubernetes 1.7,
which tell the story of nginx-nodeport.
"""

from dataclasses import replace

from hoplab.dataplane.config import Conntrack, ProxyConfig
from hoplab.kube.types import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    ObjectMeta,
    Service,
    ServicePort,
)
from tests.unit.dataplane import nft_shapes
from tests.unit.dataplane.nft_shapes import (
    HEALTHY,
    NODE,
    P80,
    P80_NODE,
    REMOTE,
    Shape,
    endpoints,
    here,
    load_balancer,
    service,
    there,
)

__all__ = ["CONFIG", "NODE", "SHAPES", "Shape"]

CONFIG = replace(nft_shapes.CONFIG, mode="iptables")
OF_NFTABLES_ONLY = {"service-network-unknown"}
"""iptables mode doesn't know the Service networks."""


def named(number: int, *ports: ServicePort, **spec: object) -> Service:
    """Service nsN/svcN with cluster IP 172.30.0.4N."""
    address = f"172.30.0.4{number}"
    return service(*ports, name=f"svc{number}", namespace=f"ns{number}", cluster_ip=address, **spec)


def behind(number: int, *each: Endpoint) -> EndpointSlice:
    return endpoints(*each, name=f"svc{number}", namespace=f"ns{number}")


def anywhere(address: str) -> Endpoint:
    """A ready endpoint that names no node."""
    return Endpoint((address,))


OVERALL = Shape(
    (
        named(1),
        named(
            2,
            P80_NODE,
            type="LoadBalancer",
            external_traffic_policy="Local",
            load_balancer_ingress=(LoadBalancerIngress("1.2.3.4"),),
            external_ips=("192.168.99.22",),
            health_check_node_port=30000,
        ),
        named(3, replace(P80, node_port=3003), type="NodePort"),
        named(4, type="NodePort", external_ips=("192.168.99.33",)),
        named(
            5,
            replace(P80, node_port=3002),
            type="LoadBalancer",
            load_balancer_ingress=(LoadBalancerIngress("5.6.7.8"),),
            health_check_node_port=30000,
            load_balancer_source_ranges=(" 203.0.113.0/25",),
        ),
        named(6),
    ),
    (
        behind(1, anywhere("10.180.0.1")),
        behind(2, anywhere("10.180.0.2")),
        behind(3, anywhere("10.180.0.3")),
        behind(4, anywhere("10.180.0.4"), here("10.180.0.5")),
        behind(5, anywhere("10.180.0.3")),
    ),
    CONFIG,
)

TODAY: dict[str, Shape] = {
    "overall": OVERALL,
    "affinity-policy-local": Shape(
        (load_balancer(external_traffic_policy="Local", session_affinity="ClientIP"),), (endpoints(*HEALTHY),), CONFIG
    ),
    "choice-among-ten": Shape(
        (service(),), (endpoints(*(anywhere(f"10.180.0.{last}") for last in range(1, 11))),), CONFIG
    ),
    "cluster-ip-node-hints": Shape(
        (service(),),
        (endpoints(here("10.180.0.1", node_hints=("test-node",)), there("10.180.2.1", node_hints=("node2",))),),
        CONFIG,
    ),
    "two-ports-one-without-endpoints": Shape(
        (service(P80_NODE, ServicePort(443, "TCP", "p443", node_port=3443), type="NodePort"),),
        (endpoints(here("10.180.0.1")),),
        CONFIG,
    ),
    "zone-hints-elsewhere-policy-local": Shape(
        (load_balancer(external_traffic_policy="Local"),),
        (endpoints(here("10.180.0.1", zone_hints=("zone-b",)), there("10.180.2.1", zone_hints=("zone-a",))),),
        CONFIG,
    ),
    "load-balancer-health-check": Shape(
        (load_balancer(external_traffic_policy="Local", health_check_node_port=30001),), (endpoints(*REMOTE),), CONFIG
    ),
    "load-balancer-two-addresses": Shape(
        (
            replace(
                load_balancer(),
                load_balancer_ingress=(LoadBalancerIngress("1.2.3.4"), LoadBalancerIngress("5.6.7.8")),
            ),
        ),
        (endpoints(*HEALTHY),),
        CONFIG,
    ),
    "another-proxys-service": Shape(
        (
            replace(
                service(),
                meta=ObjectMeta("svc1", "ns1", labels={"service.kubernetes.io/service-proxy-name": "another"}),
            ),
        ),
        (endpoints(*HEALTHY),),
        CONFIG,
    ),
    "node-port-not-on-loopback": Shape(
        (service(P80_NODE, type="NodePort"),), (endpoints(*HEALTHY),), replace(CONFIG, localhost_node_ports=False)
    ),
    "node-port-on-primary-address": Shape(
        (service(P80_NODE, type="NodePort"),),
        (endpoints(*HEALTHY),),
        replace(CONFIG, node_port_addresses=("primary",)),
    ),
    "node-port-on-loopback-only": Shape(
        (service(P80_NODE, type="NodePort"),),
        (endpoints(*HEALTHY),),
        replace(CONFIG, node_port_addresses=("127.0.0.0/8",)),
    ),
    "node-port-counted-on-loopback": Shape(
        (service(P80_NODE, type="NodePort"),), (endpoints(*HEALTHY),), replace(CONFIG, nfacct=True)
    ),
    "liberal-conntrack": Shape(
        (service(),), (endpoints(*HEALTHY),), replace(CONFIG, conntrack=Conntrack(tcp_be_liberal=True))
    ),
    "ipv6-load-balancer-local": Shape(
        (load_balancer(address="2001:db8:99::1", external_traffic_policy="Local", cluster_ip="fd00:10:96::41"),),
        (endpoints(here("fd00:10:180::1"), there("fd00:10:180:2::1"), family="IPv6"),),
        CONFIG,
        "IPv6",
    ),
    "ipv6-no-endpoints": Shape((service(cluster_ip="fd00:10:96::41"),), (), CONFIG, "IPv6"),
}

BOOK = ProxyConfig(kubernetes="1.7")
CIDR = replace(BOOK, cluster_cidrs=("10.1.0.0/16",))


def nginx(**spec: object) -> Service:
    port = ServicePort(80, node_port=32261)
    meta = ObjectMeta("nginx-nodeport")
    fields = {"type": "NodePort", "cluster_ips": ("10.0.0.167",), "ports": (port,), **spec}
    return Service(meta, **fields)  # type: ignore[arg-type]


def pods(*each: Endpoint) -> EndpointSlice:
    return EndpointSlice(ObjectMeta("nginx-nodeport-1"), "nginx-nodeport", "IPv4", each, (EndpointPort(80),))


TWO_PODS = pods(here("10.1.0.4"), there("10.1.0.5"))
BALANCED = {"type": "LoadBalancer", "load_balancer_ingress": (LoadBalancerIngress("1.2.3.4"),)}

OLD: dict[str, Shape] = {
    "kubernetes-1.7-nginx-nodeport": Shape((nginx(),), (TWO_PODS,), BOOK),
    "kubernetes-1.7-no-endpoints": Shape((nginx(external_ips=("192.168.99.33",)),), (), BOOK),
    "kubernetes-1.7-not-ready": Shape((nginx(),), (pods(here("10.1.0.4"), here("10.1.0.5", ready=False)),), BOOK),
    "kubernetes-1.7-cluster-cidr": Shape((nginx(),), (TWO_PODS,), CIDR),
    "kubernetes-1.7-masquerade-all": Shape((nginx(),), (TWO_PODS,), replace(BOOK, masquerade_all=True)),
    "kubernetes-1.7-affinity": Shape(
        (nginx(session_affinity="ClientIP", external_ips=("192.168.99.33",)),), (TWO_PODS,), BOOK
    ),
    "kubernetes-1.7-load-balancer": Shape((nginx(**BALANCED),), (TWO_PODS,), BOOK),
    "kubernetes-1.7-source-ranges": Shape(
        (nginx(**BALANCED, load_balancer_source_ranges=("203.0.113.0/25", "192.168.0.0/24")),), (TWO_PODS,), BOOK
    ),
    "kubernetes-1.7-policy-local": Shape((nginx(**BALANCED, external_traffic_policy="Local"),), (TWO_PODS,), CIDR),
    "kubernetes-1.7-policy-local-none-here": Shape(
        (nginx(**BALANCED, external_traffic_policy="Local"),), (pods(there("10.1.0.5")),), CIDR
    ),
}

SHAPES: dict[str, Shape] = {
    **{
        name: replace(shape, config=replace(shape.config, mode="iptables"))
        for name, shape in nft_shapes.SHAPES.items()
        if name not in OF_NFTABLES_ONLY
    },
    **TODAY,
    **OLD,
}
