"""The shapes of Services whose nftables text is written out in tests/fixtures/rules/nftables.

Names, addresses and the node are those of kube-proxy's own tests (pkg/proxy/nftables/proxier_test.go), so that the
fixtures can be read beside them: pods 10.0.0.0/8, cluster IPs 172.30.0.0/16, this node 192.168.0.2, external addresses
192.168.99.0/24, load balancers 1.2.3.4 and 5.6.7.8, clients 203.0.113.0/24.
"""

from dataclasses import dataclass, replace

from hoplab.dataplane.config import ProxyConfig
from hoplab.kube.types import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPFamily,
    LoadBalancerIngress,
    Node,
    ObjectMeta,
    Service,
    ServicePort,
)

ZONE = "topology.kubernetes.io/zone"
NODE = Node("test-node", ("192.168.0.2", "2001:db8::1"), ("192.168.1.2",), labels={ZONE: "zone-a"})
CONFIG = ProxyConfig(
    mode="nftables",
    cluster_cidrs=("10.0.0.0/8", "fd00:10::/64"),
    service_ip_ranges=("172.30.0.0/16", "fd00:10:96::/112"),
)
P80 = ServicePort(80, "TCP", "p80")
P80_NODE = ServicePort(80, "TCP", "p80", node_port=3001)


@dataclass(frozen=True)
class Shape:
    """Objects of one kind, seen from `NODE`."""

    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...] = ()
    config: ProxyConfig = CONFIG
    family: IPFamily = "IPv4"


def service(
    *ports: ServicePort, name: str = "svc1", namespace: str = "ns1", cluster_ip: str = "172.30.0.41", **spec: object
) -> Service:
    meta = ObjectMeta(name, namespace)
    return Service(meta, cluster_ips=(cluster_ip,), ports=ports or (P80,), **spec)  # type: ignore[arg-type]


def load_balancer(*ports: ServicePort, address: str = "1.2.3.4", **spec: object) -> Service:
    ingress = (LoadBalancerIngress(address),)
    return service(*(ports or (P80_NODE,)), type="LoadBalancer", load_balancer_ingress=ingress, **spec)


def endpoints(
    *each: Endpoint,
    ports: tuple[EndpointPort, ...] = (EndpointPort(80, "TCP", "p80"),),
    name: str = "svc1",
    namespace: str = "ns1",
    number: int = 1,
    family: IPFamily = "IPv4",
) -> EndpointSlice:
    return EndpointSlice(ObjectMeta(f"{name}-{number}", namespace), name, family, each, ports)


def here(address: str, **conditions: object) -> Endpoint:
    """A ready endpoint on this node."""
    return Endpoint((address,), node_name="test-node", **conditions)  # type: ignore[arg-type]


def there(address: str, **conditions: object) -> Endpoint:
    """A ready endpoint on another node."""
    return Endpoint((address,), node_name="node2", **conditions)  # type: ignore[arg-type]


UDP_DNS = EndpointPort(53, "UDP", "dns")
HEALTHY = (here("10.180.0.1"), there("10.180.2.1"))
REMOTE = (there("10.180.2.1"),)
TERMINATING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}
LONG = {
    "namespace": "very-long-namespace-name-abcdefghijklmnopqrstuvwxyz0123456789xx",
    "name": "very-long-service-name-why-would-you-even-do-this-i-mean-really",
}
LONG_PORT = "port-443-providing-the-hypertext-transmission-protocol-with-tls"
SIX = {"cluster_ip": "fd00:10:96::41"}
DUAL_RANGES = ("203.0.113.0/25", "2001:db8:1::/64")
DUAL_STACK = replace(
    load_balancer(load_balancer_source_ranges=DUAL_RANGES),
    cluster_ips=("172.30.0.41", "fd00:10:96::41"),
    ip_families=("IPv4", "IPv6"),
    external_ips=("192.168.99.11", "2001:db8:99::11"),
    load_balancer_ingress=(LoadBalancerIngress("1.2.3.4"), LoadBalancerIngress("2001:db8:99::1")),
)
DUAL_SLICES = (endpoints(here("10.180.0.1")), endpoints(here("fd00:10:180::1"), number=2, family="IPv6"))
EVERYWHERE = replace(CONFIG, node_port_addresses=("0.0.0.0/0", "::/0"))

SHAPES: dict[str, Shape] = {
    # Cluster IPs.
    "cluster-ip": Shape((service(),), (endpoints(Endpoint(("10.180.0.1",))),)),
    "cluster-ip-two-endpoints": Shape((service(),), (endpoints(*HEALTHY),)),
    "cluster-ip-no-endpoints": Shape((service(),)),
    "cluster-ip-endpoint-not-ready": Shape((service(),), (endpoints(here("10.180.0.1", ready=False, serving=False)),)),
    "cluster-ip-port-without-name": Shape(
        (service(ServicePort(80)),), (endpoints(here("10.0.1.1"), ports=(EndpointPort(80),)),)
    ),
    "cluster-ip-tcp-udp-sctp-on-one-port": Shape(
        (
            service(
                ServicePort(53, "UDP", "dns-udp"),
                ServicePort(53, "TCP", "dns-tcp", target_port=5353),
                ServicePort(53, "SCTP", "dns-sctp"),
                name="svc2",
                namespace="ns2",
                cluster_ip="172.30.0.42",
            ),
        ),
        (
            endpoints(
                here("10.180.0.1"),
                ports=(
                    EndpointPort(53, "UDP", "dns-udp"),
                    EndpointPort(5353, "TCP", "dns-tcp"),
                    EndpointPort(53, "SCTP", "dns-sctp"),
                ),
                name="svc2",
                namespace="ns2",
            ),
        ),
    ),
    "cluster-ip-endpoints-in-two-slices": Shape(
        (service(),), (endpoints(here("10.180.0.1")), endpoints(there("10.180.2.1"), here("10.180.0.1"), number=2))
    ),
    "cluster-ip-two-services": Shape(
        (service(), service(name="svc2", namespace="ns2", cluster_ip="172.30.0.42")),
        (endpoints(here("10.0.1.1")), endpoints(here("10.0.2.1"), name="svc2", namespace="ns2")),
    ),
    "cluster-ip-long-names": Shape(
        (service(ServicePort(443, "SCTP", LONG_PORT), **LONG),),
        (endpoints(here("10.180.0.1"), ports=(EndpointPort(443, "SCTP", LONG_PORT),), **LONG),),
    ),
    "cluster-ip-zone-hints": Shape(
        (service(),),
        (endpoints(here("10.180.0.1", zone_hints=("zone-a",)), there("10.180.2.1", zone_hints=("zone-b",))),),
    ),
    "headless-and-external-name": Shape(
        (
            service(cluster_ip="None"),
            service(name="svc2", type="ExternalName", external_name="example.com", cluster_ip="172.30.0.42"),
        ),
        (endpoints(here("10.180.0.1")),),
    ),
    # Session affinity.
    "affinity": Shape((service(session_affinity="ClientIP", session_affinity_timeout=3600),), (endpoints(*HEALTHY),)),
    # Node ports.
    "node-port": Shape((service(P80_NODE, type="NodePort"),), (endpoints(*HEALTHY),)),
    "node-port-no-endpoints": Shape((service(P80_NODE, type="NodePort"),)),
    "node-port-udp": Shape(
        (service(ServicePort(53, "UDP", "dns", node_port=3053), type="NodePort"),),
        (endpoints(here("10.180.0.1"), ports=(UDP_DNS,)),),
    ),
    "node-port-sctp": Shape(
        (service(ServicePort(132, "SCTP", "assoc", node_port=3132), type="NodePort"),),
        (endpoints(here("10.180.0.1"), ports=(EndpointPort(132, "SCTP", "assoc"),)),),
    ),
    "node-port-local": Shape(
        (service(P80_NODE, type="NodePort", external_traffic_policy="Local"),), (endpoints(*HEALTHY),)
    ),
    "node-port-on-all-addresses": Shape((service(P80_NODE, type="NodePort"),), (endpoints(*HEALTHY),), EVERYWHERE),
    "node-port-on-two-addresses": Shape(
        (service(P80_NODE, type="NodePort"),),
        (endpoints(*HEALTHY),),
        replace(CONFIG, node_port_addresses=("192.168.0.0/24", "192.168.1.0/24", "2001:db8::/64")),
    ),
    # External IPs.
    "external-ip": Shape((service(P80, type="NodePort", external_ips=("192.168.99.33",)),), (endpoints(*HEALTHY),)),
    "external-ip-claimed-twice": Shape(
        (
            service(external_ips=("192.168.99.33",)),
            service(external_ips=("192.168.99.33",), name="svc2", cluster_ip="172.30.0.42"),
        ),
        (endpoints(here("10.180.0.1")), endpoints(here("10.180.0.2"), name="svc2")),
    ),
    # Load balancers.
    "load-balancer": Shape((load_balancer(),), (endpoints(*HEALTHY),)),
    "load-balancer-no-endpoints": Shape((load_balancer(external_ips=("192.168.99.11",)),)),
    "load-balancer-without-node-port": Shape((load_balancer(P80),), (endpoints(*HEALTHY),)),
    "load-balancer-ip-mode-proxy": Shape(
        (replace(load_balancer(), load_balancer_ingress=(LoadBalancerIngress("1.2.3.4", "Proxy"),)),),
        (endpoints(*HEALTHY),),
    ),
    "load-balancer-local": Shape(
        (load_balancer(external_traffic_policy="Local", external_ips=("192.168.99.11",)),), (endpoints(*HEALTHY),)
    ),
    "load-balancer-local-none-here": Shape(
        (load_balancer(external_traffic_policy="Local", external_ips=("192.168.99.22",)),), (endpoints(*REMOTE),)
    ),
    "load-balancer-source-ranges": Shape(
        (load_balancer(load_balancer_source_ranges=("203.0.113.0/25",), session_affinity="ClientIP"),),
        (endpoints(*REMOTE),),
    ),
    "load-balancer-source-ranges-with-this-node": Shape(
        (
            replace(
                load_balancer(load_balancer_source_ranges=("192.168.0.0/24", " 203.0.113.0/25")),
                load_balancer_ingress=(LoadBalancerIngress("1.2.3.4"), LoadBalancerIngress("5.6.7.8")),
            ),
        ),
        (endpoints(*REMOTE),),
    ),
    "load-balancer-source-ranges-no-endpoints": Shape(
        (load_balancer(load_balancer_source_ranges=("203.0.113.0/25",)),)
    ),
    # Internal traffic policy.
    "internal-local": Shape(
        (service(internal_traffic_policy="Local"),), (endpoints(here("10.0.1.1"), here("10.0.1.2"), there("10.0.1.3")),)
    ),
    "internal-local-none-here": Shape((service(internal_traffic_policy="Local"),), (endpoints(*REMOTE),)),
    "internal-local-external-cluster": Shape((load_balancer(internal_traffic_policy="Local"),), (endpoints(*HEALTHY),)),
    "internal-and-external-local": Shape(
        (load_balancer(internal_traffic_policy="Local", external_traffic_policy="Local"),), (endpoints(*HEALTHY),)
    ),
    "internal-and-external-local-none-here": Shape(
        (load_balancer(internal_traffic_policy="Local", external_traffic_policy="Local"),), (endpoints(*REMOTE),)
    ),
    # Terminating endpoints.
    "terminating-here-ready-there": Shape(
        (load_balancer(external_traffic_policy="Local"),),
        (endpoints(here("10.0.1.2", **TERMINATING), here("10.0.1.4", **GONE), there("10.0.1.5")),),
    ),
    "terminating-everywhere": Shape(
        (load_balancer(),), (endpoints(here("10.0.1.2", **TERMINATING), there("10.0.1.5", **TERMINATING)),)
    ),
    "terminating-there-only-policy-local": Shape(
        (load_balancer(external_traffic_policy="Local"),), (endpoints(there("10.0.1.5", **TERMINATING)),)
    ),
    "terminating-and-not-serving": Shape((load_balancer(),), (endpoints(here("10.0.1.5", **GONE)),)),
    # Configuration.
    "masquerade-all": Shape((load_balancer(),), (endpoints(*HEALTHY),), replace(CONFIG, masquerade_all=True)),
    "no-detection-of-local-traffic": Shape(
        (load_balancer(external_traffic_policy="Local"),), (endpoints(*HEALTHY),), replace(CONFIG, cluster_cidrs=())
    ),
    "another-masquerade-bit": Shape((service(),), (endpoints(*HEALTHY),), replace(CONFIG, masquerade_bit=9)),
    "service-network-unknown": Shape((service(),), (endpoints(*HEALTHY),), replace(CONFIG, service_ip_ranges=())),
    # IPv6 and dual stack.
    "ipv6-node-port": Shape(
        (service(P80_NODE, type="NodePort", **SIX),),
        (endpoints(Endpoint(("fd00:10:180::1",)), here("fd00:10:180::2:1"), family="IPv6"),),
        family="IPv6",
    ),
    "ipv6-node-port-on-all-addresses": Shape(
        (service(P80_NODE, type="NodePort", **SIX),),
        (endpoints(here("fd00:10:180::1"), family="IPv6"),),
        EVERYWHERE,
        "IPv6",
    ),
    "ipv6-affinity": Shape(
        (service(session_affinity="ClientIP", **SIX),),
        (endpoints(here("fd00:10:180::1"), family="IPv6"),),
        family="IPv6",
    ),
    "ipv6-load-balancer-source-ranges": Shape(
        (load_balancer(address="2001:db8:99::1", load_balancer_source_ranges=DUAL_RANGES, **SIX),),
        (endpoints(here("fd00:10:180::1"), family="IPv6"),),
        family="IPv6",
    ),
    "dual-stack-ipv4-part": Shape((DUAL_STACK,), DUAL_SLICES),
    "dual-stack-ipv6-part": Shape((DUAL_STACK,), DUAL_SLICES, family="IPv6"),
}
