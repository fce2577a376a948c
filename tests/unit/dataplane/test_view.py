"""kube-proxy's view of Services and endpoints: what counts, for whom, in which order.

The cases of `categorize_endpoints` are those of kube-proxy's TestCategorizeEndpoints (pkg/proxy/topology_test.go), the
others those of pkg/proxy/servicechangetracker_test.go and endpointslicecache_test.go.
"""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.dataplane.view import (
    EndpointInfo,
    PortKey,
    ServicePortInfo,
    categorize_endpoints,
    endpoints_of,
    service_ports,
    view,
)
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
NODE = Node("node1", ("10.240.0.11",), labels={ZONE: "zone-a"})
KEY = PortKey("ns", "svc", "http", "TCP")
INSIDE = ServicePortInfo(KEY, "ns/svc:http", "10.0.0.1", 80)
OUTSIDE = replace(INSIDE, node_port=30080)


def ep(
    last: int, zones: str = "", *, here: bool = False, nodes: tuple[str, ...] = (), state: str = "R"
) -> EndpointInfo:
    """10.1.2.LAST: `zones` by letter; `state` R ready, T terminating and serving, G terminating, N not ready."""
    return EndpointInfo(
        f"10.1.2.{last}",
        80,
        here,
        ready=state == "R",
        serving=state in "RT",
        terminating=state in "TG",
        zone_hints=frozenset(f"zone-{letter}" for letter in zones),
        node_hints=frozenset(nodes),
    )


@dataclass(frozen=True)
class Case:
    """Who is used: numbers of endpoints for policy Cluster, policy Local, and by any of both."""

    endpoints: tuple[EndpointInfo, ...]
    cluster: tuple[int, ...]
    local: tuple[int, ...] = ()
    reachable: tuple[int, ...] | None = None
    port: ServicePortInfo = INSIDE
    node: Node = NODE
    has_any: bool = True


HINTED = (ep(3, "a"), ep(4, "b"), ep(5, "c"), ep(6, "a"))
HINTED_HERE = (ep(3, "a", here=True), ep(4, "b", here=True), ep(5, "c"), ep(6, "a"))
INTERNAL_LOCAL = replace(INSIDE, internal_local=True)
EXTERNAL_LOCAL = replace(OUTSIDE, external_local=True)
ALL_LOCAL = replace(OUTSIDE, external_local=True, internal_local=True)


def node_in(zone: str) -> Node:
    return replace(NODE, labels={ZONE: zone} if zone else {})


CASES = {
    "hints for this zone": Case(HINTED, (3, 6)),
    "policy Local outside: hints don't concern it": Case(HINTED_HERE, (3, 6), (3, 4), (3, 4, 6), EXTERNAL_LOCAL),
    "policy Local inside, node port outside": Case(
        HINTED_HERE, (3, 6), (3, 4), (3, 4, 6), replace(OUTSIDE, internal_local=True)
    ),
    "a node without zone": Case((ep(3, "a"),), (3,), node=node_in("")),
    "no hint for this zone: hints are ignored": Case((ep(3, "a"), ep(5, "c")), (3, 5), node=node_in("zone-b")),
    "an endpoint that is not ready doesn't count": Case((ep(3, "a"), ep(4, "b"), ep(6, "a", state="N")), (3,)),
    "none ready in this zone: hints are ignored": Case((ep(3, "a", state="N"), ep(4, "b"), ep(5, "c")), (4, 5)),
    "one hint missing: hints are ignored": Case((ep(3, "a"), ep(4, "b"), ep(5)), (3, 4, 5)),
    "the hint may miss where nothing is ready": Case((ep(3, "a"), ep(4, "b"), ep(5, state="N")), (3,)),
    "several zones for one endpoint": Case(
        (ep(3, "abc"), ep(4, "bc"), ep(5, "bd"), ep(6, "c")), (3, 4, 6), node=node_in("zone-c")
    ),
    "hints for this node before hints for its zone": Case(
        (ep(3, "a", nodes=("node1",)), ep(4, "a", nodes=("node2",))), (3,)
    ),
    "no hint for this node: the zone's count": Case((ep(3, "a", nodes=("node2",)), ep(4, "b", nodes=("node3",))), (3,)),
    "a node hint missing: the zone's count": Case((ep(3, "b", nodes=("node1",)), ep(4, "a")), (4,)),
    "policy Local, none anywhere": Case((), (), port=INTERNAL_LOCAL, has_any=False),
    "policy Local, all elsewhere": Case((ep(3), ep(4)), (), (), (), INTERNAL_LOCAL),
    "policy Local, all here": Case((ep(3, here=True), ep(4, here=True)), (), (3, 4), (3, 4), INTERNAL_LOCAL),
    "policy Local, some here": Case((ep(3, here=True), ep(4)), (), (3,), (3,), INTERNAL_LOCAL),
    "policy Local, not serving elsewhere": Case((ep(3, state="N"),), (), port=INTERNAL_LOCAL, has_any=False),
    "policy Cluster, none ready": Case((ep(3, state="N"), ep(4, state="N")), (), has_any=False),
    "policy Cluster, some ready": Case((ep(3, state="N"), ep(4)), (4,)),
    "policy Cluster, all terminating": Case((ep(3, here=True, state="T"), ep(4, state="T")), (3, 4)),
    "policy Cluster, terminating and gone": Case((ep(3, state="T"), ep(4, state="G")), (3,)),
    "policy Cluster, one ready among terminating": Case((ep(3, state="T"), ep(4)), (4,)),
    "terminating ones have hints, too, but those are ignored": Case(
        (ep(3, "b", state="T"), ep(4, "a", state="T")), (3, 4)
    ),
    "Local inside, Cluster outside": Case(
        (ep(3, here=True), ep(4)), (3, 4), (3,), (3, 4), replace(OUTSIDE, internal_local=True)
    ),
    "Cluster inside, Local outside": Case((ep(3, here=True), ep(4)), (3, 4), (3,), (3, 4), EXTERNAL_LOCAL),
    "Local on both sides": Case((ep(3, here=True), ep(4)), (3, 4), (3,), (3, 4), ALL_LOCAL),
    "Local on both sides, all elsewhere": Case((ep(3), ep(4)), (3, 4), (), (3, 4), ALL_LOCAL),
    "Local on both sides, all elsewhere and terminating": Case(
        (ep(3, state="T"), ep(4, state="T")), (3, 4), (), (3, 4), ALL_LOCAL
    ),
    "Local outside, here only terminating": Case(
        (ep(3), ep(4, here=True, state="N"), ep(5, here=True, state="T"), ep(6, state="T")),
        (3,),
        (5,),
        (3, 5),
        EXTERNAL_LOCAL,
    ),
    "policy Local outside means nothing without an outside": Case(
        (ep(3, here=True), ep(4)), (3, 4), (), (3, 4), replace(INSIDE, external_local=True)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_which_endpoints_a_node_uses(name: str):
    case = CASES[name]
    found = categorize_endpoints(case.endpoints, case.port, case.node)
    assert numbers(found.cluster) == case.cluster
    assert numbers(found.local) == case.local
    assert numbers(found.reachable) == (case.cluster if case.reachable is None else case.reachable)
    assert found.has_any == case.has_any


def numbers(endpoints: tuple[EndpointInfo, ...]) -> tuple[int, ...]:
    return tuple(int(each.address.rpartition(".")[2]) for each in endpoints)


def one(**spec: object) -> Service:
    fields = {"cluster_ips": ("10.0.0.1",), "ports": (ServicePort(80, name="http"),), **spec}
    return Service(ObjectMeta("svc", "ns"), **fields)  # type: ignore[arg-type]


def info(service: Service, family: IPFamily = "IPv4") -> ServicePortInfo:
    (found,) = service_ports([service], family)
    return found


@pytest.mark.parametrize(
    "service",
    [
        one(cluster_ips=("None",)),
        one(cluster_ips=()),
        one(type="ExternalName", cluster_ips=("10.0.0.1",)),
        one(cluster_ips=("fd00::1",)),
        replace(one(), meta=ObjectMeta("svc", "ns", labels={"service.kubernetes.io/service-proxy-name": "foo"})),
        replace(one(), meta=ObjectMeta("svc", "ns", labels={"service.kubernetes.io/headless": ""})),
    ],
    ids=["headless", "no address", "ExternalName", "other family", "another proxy's", "labelled headless"],
)
def test_services_that_are_left_alone(service: Service):
    assert service_ports([service], "IPv4") == []


def test_a_label_has_no_colon_for_a_port_without_name():
    assert info(one()).label == "ns/svc:http"
    assert info(one(ports=(ServicePort(80),))).label == "ns/svc"


def test_each_family_sees_its_own_addresses():
    service = one(
        type="LoadBalancer",
        cluster_ips=("10.0.0.1", "FD00:0::1"),
        external_ips=("192.0.2.1", "2001:DB8::1"),
        load_balancer_ingress=(LoadBalancerIngress("198.51.100.1"), LoadBalancerIngress("2001:db8::0:2")),
        load_balancer_source_ranges=(" 203.0.113.77/24 ", "2001:db8:1::1/48"),
    )
    four, six = info(service), info(service, "IPv6")
    assert (four.cluster_ip, four.external_ips) == ("10.0.0.1", ("192.0.2.1",))
    assert (four.load_balancer_vips, four.source_ranges) == (("198.51.100.1",), ("203.0.113.0/24",))
    assert (six.cluster_ip, six.external_ips) == ("fd00::1", ("2001:db8::1",))
    assert (six.load_balancer_vips, six.source_ranges) == (("2001:db8::2",), ("2001:db8:1::/48",))


def test_a_source_range_that_is_none_spares_the_others():
    ranges = ("203.0.113.0/24", "everybody", "10.0.0.0/99")
    assert info(one(type="LoadBalancer", load_balancer_source_ranges=ranges)).source_ranges == ("203.0.113.0/24",)


def test_an_address_of_ip_mode_proxy_is_not_caught():
    ingress = (LoadBalancerIngress("198.51.100.1", "Proxy"), LoadBalancerIngress("198.51.100.2"))
    assert info(one(type="LoadBalancer", load_balancer_ingress=ingress)).load_balancer_vips == ("198.51.100.2",)


@pytest.mark.parametrize(
    ("spec", "local", "health"),
    [
        ({"type": "LoadBalancer"}, True, 31000),
        ({"type": "NodePort"}, True, 0),
        ({"type": "ClusterIP"}, False, 0),
        ({"type": "ClusterIP", "external_ips": ("192.0.2.1",)}, True, 0),
        ({"type": "LoadBalancer", "external_traffic_policy": "Cluster"}, False, 0),
    ],
)
def test_external_policy_local_needs_an_outside(spec: dict[str, object], local: bool, health: int):
    fields = {"external_traffic_policy": "Local", "health_check_node_port": 31000, **spec}
    found = info(one(**fields))
    assert (found.external_local, found.health_check_node_port) == (local, health)


def test_affinity_has_a_timeout_or_is_none():
    assert info(one()).affinity_timeout == 0
    assert info(one(session_affinity="ClientIP", session_affinity_timeout=60)).affinity_timeout == 60


def sliced(
    *each: Endpoint, ports: tuple[EndpointPort, ...] = (EndpointPort(80, name="http"),), **spec: object
) -> EndpointSlice:
    fields = {"name": "svc-1", "family": "IPv4", **spec}
    return EndpointSlice(ObjectMeta(str(fields["name"]), "ns"), "svc", fields["family"], each, ports)  # type: ignore[arg-type]


def texts(*slices: EndpointSlice) -> list[str]:
    return [each.text for each in endpoints_of(slices, NODE, "IPv4").get(KEY, ())]


def test_endpoints_are_sorted_as_text():
    addresses = ("10.1.0.2", "10.1.0.10", "10.1.0.1")
    assert texts(sliced(*(Endpoint((each,)) for each in addresses))) == ["10.1.0.10:80", "10.1.0.1:80", "10.1.0.2:80"]


def test_slices_of_the_other_family_and_domain_names_are_left_alone():
    assert texts(sliced(Endpoint(("fd00::1",)), family="IPv6")) == []
    assert texts(sliced(Endpoint(("example.com",)), family="FQDN")) == []
    assert texts(sliced(Endpoint(("fd00::1",)), Endpoint(("10.1.0.1",)), Endpoint(()))) == ["10.1.0.1:80"]


def test_ports_join_by_name_and_protocol():
    ports = (EndpointPort(80, name="http"), EndpointPort(53, "UDP", "http"), EndpointPort(0, name="none"))
    found = endpoints_of([sliced(Endpoint(("10.1.0.1",)), ports=ports)], NODE, "IPv4")
    assert {key[2:]: [each.text for each in values] for key, values in found.items()} == {
        ("http", "TCP"): ["10.1.0.1:80"],
        ("http", "UDP"): ["10.1.0.1:53"],
    }


def test_one_name_may_have_different_ports_in_different_slices():
    one_port = sliced(Endpoint(("10.1.0.1",)), ports=(EndpointPort(8080, name="http"),))
    other = sliced(Endpoint(("10.1.0.2",)), ports=(EndpointPort(9090, name="http"),), name="svc-2")
    assert texts(one_port, other) == ["10.1.0.1:8080", "10.1.0.2:9090"]


def test_an_endpoint_in_two_slices_is_the_local_one_or_the_first():
    far = sliced(Endpoint(("10.1.0.1",), node_name="node2", ready=False), name="svc-1")
    farther = sliced(Endpoint(("10.1.0.1",), node_name="node3"), name="svc-2")
    near = sliced(Endpoint(("10.1.0.1",), node_name="node1"), name="svc-3")
    assert [each.node_name for each in endpoints_of([farther, far], NODE, "IPv4")[KEY]] == ["node2"]
    assert [each.node_name for each in endpoints_of([near, farther, far], NODE, "IPv4")[KEY]] == ["node1"]


def test_the_next_view_takes_over_what_stayed():
    services = [one(), replace(one(), meta=ObjectMeta("other", "ns"))]
    slices = [sliced(Endpoint(("10.1.0.1",)))]
    first = view(services, slices, NODE, "IPv4")
    second = view([services[0], replace(services[1], type="NodePort")], slices, NODE, "IPv4", first)
    assert second == view([services[0], replace(services[1], type="NodePort")], slices, NODE, "IPv4")
    assert second.endpoints[KEY] is first.endpoints[KEY]
    assert second.ports[1] is first.ports[1]


def test_another_nodes_view_is_no_help():
    slices = [sliced(Endpoint(("10.1.0.1",), node_name="node1"))]
    first = view([one()], slices, NODE, "IPv4")
    elsewhere = replace(NODE, name="node2")
    assert not view([one()], slices, elsewhere, "IPv4", first).endpoints[KEY][0].is_local


@given(st.permutations(range(4)))
def test_the_order_of_objects_does_not_matter(order: list[int]):
    services = [replace(one(), meta=ObjectMeta(f"svc{number}", "ns")) for number in range(4)]
    slices = [
        sliced(Endpoint((f"10.1.0.{number % 2}",), zone_hints=(str(number),)), name=f"s{number}") for number in range(4)
    ]
    shuffled = view([services[index] for index in order], [slices[index] for index in order], NODE, "IPv4")
    assert shuffled == view(services, slices, NODE, "IPv4")
