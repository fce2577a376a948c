"""The cloud topology as the evaluator knows it: client, router, lb, two nodes with a bridge each, pods a to d."""

from collections.abc import Mapping

from hoplab.dataplane import iptables, nftables
from hoplab.dataplane.balancer import Backend, Balancer, Frontend, balancer_text, policy_routes
from hoplab.dataplane.config import ProxyConfig, ProxyMode
from hoplab.kube.types import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    Node,
    ObjectMeta,
    Service,
    ServicePort,
)
from hoplab.model.cluster_walk import Station
from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Host, Interface, Packet, PolicyRule, Route
from hoplab.model.rules import Ruleset

VIP = "198.51.100.10"
CLUSTER_IP = "10.0.0.20"
NODE_ADDRESSES = {"node1": "10.240.0.11", "node2": "10.240.0.12"}
PODS = {"a": ("node1", "10.1.1.2"), "b": ("node1", "10.1.1.3"), "c": ("node2", "10.1.2.2"), "d": ("node2", "10.1.2.3")}
HTTP = frozenset({("tcp", 80)})
CLIENT = Packet("203.0.113.10", 40000, VIP, 80)


def service(**spec: object) -> Service:
    return Service(
        ObjectMeta("service-b"),
        "LoadBalancer",
        cluster_ips=(CLUSTER_IP,),
        ports=(ServicePort(80, node_port=30080),),
        load_balancer_ingress=(LoadBalancerIngress(VIP),),
        **spec,  # type: ignore[arg-type]
    )


def behind(*pods: str) -> EndpointSlice:
    found = tuple(Endpoint((PODS[name][1],), node_name=PODS[name][0]) for name in pods)
    return EndpointSlice(ObjectMeta("service-b-1"), "service-b", endpoints=found, ports=(EndpointPort(80),))


def balancer(mode: str = "nat", algorithm: str = "hash") -> Ruleset:
    port = 80 if mode == "passthrough" else 30080
    backends = tuple(Backend(name, address, port) for name, address in NODE_ADDRESSES.items())
    frontend = Frontend(VIP, 80, "TCP", "default/service-b", backends)
    return parse_nft(balancer_text(Balancer(algorithm, mode, (frontend,), ("10.240.0.0/16", "10.1.0.0/16"))))  # type: ignore[arg-type]


def node_rules(name: str, given: Service, slices: EndpointSlice, mode: ProxyMode) -> Ruleset:
    node = Node(name, (NODE_ADDRESSES[name],))
    config = ProxyConfig(mode=mode, cluster_cidrs=("10.1.0.0/16",))
    if mode == "nftables":
        return parse_nft(nftables.build([given], [slices], node, config, "IPv4").text())
    return parse_iptables(iptables.build([given], [slices], node, config, "IPv4").text())


def cloud(
    given: Service, slices: EndpointSlice, *, mode: ProxyMode = "iptables", lb: Ruleset | None = None
) -> dict[str, Station]:
    """Every namespace with its rules; `lb` None is the balancer by hash."""
    routes = policy_routes(NODE_ADDRESSES.values())
    found = {
        "client": Station(_host("client", "203.0.113.10/24", Route("default", "eth0", "203.0.113.2"), listens=HTTP)),
        "router": Station(
            Host(
                (Interface("eth0", ("203.0.113.1/24",)), Interface("eth1", ("10.240.0.1/16",))),
                (Route("10.1.0.0/16", "eth1", "10.240.0.11"),),
                forward=True,
                listens=frozenset(),
            )
        ),
        "lb": Station(
            Host(
                (Interface("eth0", ("203.0.113.2/24",)), Interface("eth1", ("10.240.0.2/16",))),
                (Route("default", "eth0", "203.0.113.1"), *(Route("default", "eth1", r.via, r.table) for r in routes)),
                forward=True,
                policy_rules=tuple(PolicyRule(1000, each.table, each.mark) for each in routes),
                listens=frozenset(),
            ),
            balancer() if lb is None else lb,
        ),
    }
    for name, address in NODE_ADDRESSES.items():
        other = next(each for each in NODE_ADDRESSES if each != name)
        host = Host(
            (Interface("eth0", (f"{address}/16",)), Interface("cni0", (f"10.1.{name[-1]}.1/24",))),
            (
                Route("default", "eth0", "10.240.0.2"),
                Route(f"10.1.{other[-1]}.0/24", "eth0", NODE_ADDRESSES[other]),
            ),
            forward=True,
            listens=frozenset(),
        )
        found[name] = Station(host, node_rules(name, given, slices, mode))
    for name, (node, address) in PODS.items():
        interface = Interface("eth0", (f"{address}/24",), bridged_by=(node, "cni0"))
        gateway = f"10.1.{node[-1]}.1"
        found[f"pod/{name}"] = Station(Host((interface,), (Route("default", "eth0", gateway),), listens=HTTP))
    return found


def _host(name: str, address: str, *routes: Route, listens: frozenset[tuple[str, int]]) -> Host:
    return Host((Interface("eth0", (address,)),), routes, listens=listens)


def with_rules(cluster: Mapping[str, Station], name: str, ruleset: Ruleset) -> dict[str, Station]:
    """The cluster with other rules in one namespace."""
    return {**cluster, name: Station(cluster[name].host, ruleset)}
