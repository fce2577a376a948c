"""Random clusters for property tests: Services of every type and policy, endpoints in every condition, settings."""

from dataclasses import dataclass

from hypothesis import strategies as st

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

NODE = Node("node1", ("192.168.0.2", "2001:db8::2"), ("192.168.1.2",), labels={"topology.kubernetes.io/zone": "zone-a"})
PORTS = (("http", "TCP", 80), ("dns", "UDP", 53), ("assoc", "SCTP", 132))


@dataclass(frozen=True)
class Cluster:
    """What one node's kube-proxy would see."""

    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    config: ProxyConfig
    node: Node = NODE


POLICY = st.sampled_from(["Cluster", "Local"])
CONFIGS = st.builds(
    ProxyConfig,
    mode=st.just("nftables"),
    cluster_cidrs=st.sampled_from([(), ("10.0.0.0/8", "fd00:10::/64")]),
    masquerade_all=st.booleans(),
    masquerade_bit=st.sampled_from([14, 9]),
    node_port_addresses=st.sampled_from([(), ("0.0.0.0/0", "::/0"), ("192.168.0.0/16",)]),
    service_ip_ranges=st.sampled_from([(), ("172.30.0.0/16", "fd00:10:96::/112")]),
)


@st.composite
def service_with_slices(draw: st.DrawFn, number: int) -> tuple[Service, tuple[EndpointSlice, ...]]:
    name = f"svc{number}"
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]))
    ports = draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3, unique=True))
    balanced = kind == "LoadBalancer" and draw(st.booleans())
    service = Service(
        ObjectMeta(name, "ns1"),
        kind,
        cluster_ips=() if kind == "ExternalName" else (f"172.30.0.{number + 1}", f"fd00:10:96::{number + 1:x}"),
        ports=tuple(
            ServicePort(port, protocol, port_name, 0, 30000 + 10 * number + index if kind != "ClusterIP" else 0)
            for index, (port_name, protocol, port) in enumerate(ports)
        ),
        external_ips=draw(st.sampled_from([(), (f"192.168.99.{number + 1}", f"2001:db8:99::{number + 1:x}")])),
        external_traffic_policy=draw(POLICY),
        internal_traffic_policy=draw(POLICY),
        session_affinity=draw(st.sampled_from(["None", "ClientIP"])),
        session_affinity_timeout=draw(st.sampled_from([60, 10800])),
        load_balancer_source_ranges=draw(
            st.sampled_from([(), ("203.0.113.0/25",), ("192.168.0.0/24", "203.0.113.0/24", "2001:db8::/64")])
        ),
        load_balancer_ingress=(
            LoadBalancerIngress(f"1.2.3.{number + 1}", draw(st.sampled_from(["VIP", "Proxy"]))),
            LoadBalancerIngress(f"2001:db8:1::{number + 1:x}"),
        )
        if balanced
        else (),
    )
    return service, tuple(draw(endpoint_slice(number, family, ports)) for family in ("IPv4", "IPv6"))


@st.composite
def endpoint_slice(draw: st.DrawFn, number: int, family: IPFamily, ports: list[tuple[str, str, int]]) -> EndpointSlice:
    prefix = f"10.0.{number}." if family == "IPv4" else f"fd00:10:0:{number:x}::"
    hosts = draw(st.lists(st.integers(1, 6), max_size=4, unique=True))
    return EndpointSlice(
        ObjectMeta(f"svc{number}-{family.lower()}", "ns1"),
        f"svc{number}",
        family,
        tuple(draw(endpoint(f"{prefix}{host}")) for host in hosts),
        tuple(EndpointPort(8000 + port, protocol, name) for name, protocol, port in ports),  # type: ignore[arg-type]
    )


@st.composite
def endpoint(draw: st.DrawFn, address: str) -> Endpoint:
    ready = draw(st.booleans())
    return Endpoint(
        (address,),
        ready=ready,
        serving=ready or draw(st.booleans()),
        terminating=not ready and draw(st.booleans()),
        node_name=draw(st.sampled_from(["node1", "node2", ""])),
        zone_hints=draw(st.sampled_from([(), ("zone-a",), ("zone-b",)])),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Up to four Services; the same names and addresses come again, so that two clusters can be states of one."""
    numbers = draw(st.lists(st.integers(0, 4), max_size=4, unique=True))
    drawn = [draw(service_with_slices(number)) for number in sorted(numbers)]
    return Cluster(
        tuple(service for service, _ in drawn),
        tuple(each for _, slices in drawn for each in slices),
        draw(CONFIGS),
    )
