"""kube-proxy's nftables mode, line by line: one fixture for each shape of Service, and what holds for all of them.

A fixture's head says what to compare it with in kube-proxy's own tests, and which fixture holds the fixed part.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.nft_text import changes, deleted_chains, gone_chains, unread_changes
from hoplab.dataplane.nftables import build, build_from_view
from hoplab.dataplane.nftables_names import endpoint_base, service_base
from hoplab.dataplane.view import view
from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, IPFamily, Node, ObjectMeta, Service, ServicePort
from tests.unit.dataplane.nft_kernel import check, loaded
from tests.unit.dataplane.nft_random import Cluster, clusters
from tests.unit.dataplane.nft_shapes import CONFIG, NODE, SHAPES, endpoints, here, service, there

FIXTURES = Path(__file__).parents[2] / "fixtures/rules/nftables"
LONG_NAMES = (
    "very-long-namespace-name-abcdefghijklmnopqrstuvwxyz0123456789xx",
    "very-long-service-name-why-would-you-even-do-this-i-mean-really",
    "port-443-providing-the-hypertext-transmission-protocol-with-tls",
    "sctp",
)


def expected_text(name: str) -> str:
    """The fixture's base, followed by its own lines."""
    head, _, body = (FIXTURES / f"{name}.nft").read_text().partition("\n\n")
    base = head.splitlines()[-1].removeprefix("# base: ")
    return (FIXTURES / f"{base}.nft").read_text() + body


@pytest.mark.parametrize("name", SHAPES)
def test_text_of_the_shape(name: str):
    shape = SHAPES[name]
    table = build(shape.services, shape.slices, NODE, shape.config, shape.family)
    assert table.text().splitlines() == expected_text(name).splitlines()


@pytest.mark.lab
@pytest.mark.parametrize("name", SHAPES)
def test_nft_takes_the_shape(name: str):
    check(expected_text(name))


def test_every_fixture_belongs_to_a_shape():
    names = {path.stem for path in FIXTURES.glob("*.nft") if not path.stem.startswith("base-")}
    assert names == set(SHAPES)


def test_names_are_those_of_kube_proxy():
    assert service_base("testing", "service", "http", "tcp") == "P4ZYZVCF-testing/service/tcp/http"
    assert service_base("testing", "service", "https", "tcp") == "LZBRENCP-testing/service/tcp/https"
    name = endpoint_base("testing", "service", "http", "tcp", "10.180.0.1", 80)
    assert name == "JO2XBXZR-testing/service/tcp/http__10.180.0.1/80"
    name = endpoint_base("testing", "service", "http", "tcp", "fd80:abcd:12::a1b2:c3d4:e5f6:9999", 80)
    assert name == "U7E2ET36-testing/service/tcp/http__fd80.abcd.12..a1b2.c3d4.e5f6.9999/80"


@pytest.mark.parametrize(
    ("address", "start", "end"),
    [
        ("1234:5678:9abc:def0::abc:1234", "5YS7AFEA-", "__1234.5678.9abc.def0..abc.1234/443"),
        ("1234:5678:9abc:def0::abcd:1234:5678", "CI6C53Q3-", "__1234.5678.9abc.def0..abcd.1234..."),
        ("1234:5678:9abc:def0::abcd:1234:8765", "2FLXFK6X-", "__1234.5678.9abc.def0..abcd.1234..."),
    ],
)
def test_a_name_that_is_too_long_is_cut_and_stays_unique(address: str, start: str, end: str):
    namespace, service_name, port_name, protocol = LONG_NAMES
    name = endpoint_base(namespace, service_name, port_name, protocol, address, 443)
    assert name.startswith(start)
    assert name.endswith(end)
    assert len(name) <= 240


def test_everything_made_for_a_service_says_so():
    table = build((service(),), (endpoints(here("10.180.0.1")),), NODE, CONFIG, "IPv4")
    own = [chain for chain in table.chains if "/" in chain.name]
    assert {chain.source for chain in own} == {"ns1/svc1:p80"}
    assert {rule.source for chain in own for rule in chain.rules} == {"ns1/svc1:p80"}
    elements = [each for collection in table.sets for each in collection.elements if collection.name != "nodeport-ips"]
    assert {element.source for element in elements} == {"ns1/svc1:p80"}


def test_a_chain_says_what_it_stands_for():
    pod = replace(here("10.180.0.1"), target_ref="ns1/web-0")
    chains = build((service(),), (endpoints(pod, there("10.180.2.1")),), NODE, CONFIG, "IPv4").chains
    assert [chain.about for chain in chains if chain.source] == [
        "ns1/svc1:p80",
        "endpoint 10.180.0.1:80 (pod ns1/web-0) of ns1/svc1:p80",
        "endpoint 10.180.2.1:80 of ns1/svc1:p80",
    ]


def test_the_mode_is_nftables_whatever_the_settings_say():
    objects = (service(),), (endpoints(here("10.180.0.1")),)
    text = build(*objects, NODE, CONFIG, "IPv4").text()
    assert build(*objects, NODE, replace(CONFIG, mode="iptables"), "IPv4").text() == text


@settings(max_examples=50, deadline=None)
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_the_objects_does_not_matter(cluster: Cluster, random: Random):
    services, slices = list(cluster.services), list(cluster.slices)
    random.shuffle(services)
    random.shuffle(slices)
    for family in ("IPv4", "IPv6"):
        shuffled = build(services, slices, cluster.node, cluster.config, family)
        assert shuffled.text() == build(cluster.services, cluster.slices, cluster.node, cluster.config, family).text()


def test_a_new_service_costs_its_own_lines_only():
    # As kube-proxy's TestSyncProxyRulesRepeated counts them, less the flush of chains that are new.
    two = SHAPES["cluster-ip-two-services"]
    before = build(two.services, two.slices, NODE, CONFIG, "IPv4")
    third = service(name="svc3", namespace="ns3", cluster_ip="172.30.0.43")
    slices = (*two.slices, endpoints(here("10.0.3.1"), name="svc3", namespace="ns3"))
    after = build((*two.services, third), slices, NODE, CONFIG, "IPv4")
    assert [line.split()[:2] for line in changes(before, after).splitlines()] == [
        ["add", "chain"],
        ["add", "chain"],
        ["add", "rule"],
        ["add", "rule"],
        ["add", "rule"],
        ["add", "rule"],
        ["add", "element"],
        ["add", "element"],
    ]


def test_a_deleted_service_takes_its_chains_along():
    two = SHAPES["cluster-ip-two-services"]
    before = build(two.services, two.slices, NODE, CONFIG, "IPv4")
    after = build(two.services[:1], two.slices, NODE, CONFIG, "IPv4")
    name = "42NFTM6N-ns2/svc2/tcp/p80"
    assert changes(before, after).splitlines() == [
        "delete element ip kube-proxy cluster-ips { 172.30.0.42 }",
        "delete element ip kube-proxy service-ips { 172.30.0.42 . tcp . 80 }",
        f"flush chain ip kube-proxy service-{name}",
        "flush chain ip kube-proxy endpoint-RUN55B7R-ns2/svc2/tcp/p80__10.0.2.1/80",
        f"delete chain ip kube-proxy service-{name}",
        "delete chain ip kube-proxy endpoint-RUN55B7R-ns2/svc2/tcp/p80__10.0.2.1/80",
    ]


def test_one_more_endpoint_rewrites_the_choice_and_adds_a_chain():
    before = build((service(),), (endpoints(here("10.180.0.1")),), NODE, CONFIG, "IPv4")
    after = build((service(),), (endpoints(here("10.180.0.1"), there("10.180.2.1")),), NODE, CONFIG, "IPv4")
    chain, endpoint = "service-ULMVA6XW-ns1/svc1/tcp/p80", "endpoint-MLKSHPWN-ns1/svc1/tcp/p80__10.180.2.1/80"
    assert changes(before, after).splitlines() == [
        f"add chain ip kube-proxy {endpoint}",
        f"flush chain ip kube-proxy {chain}",
        f"add rule ip kube-proxy {chain} ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 jump mark-for-masquerade",
        f"add rule ip kube-proxy {chain} numgen random mod 2 vmap "
        f"{{ 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 , 1 : goto {endpoint} }}",
        f"add rule ip kube-proxy {endpoint} ip saddr 10.180.2.1 jump mark-for-masquerade",
        f"add rule ip kube-proxy {endpoint} meta l4proto tcp dnat to 10.180.2.1:80",
    ]


def test_the_last_endpoint_gone_turns_dnat_into_rejection():
    before = build((service(),), (endpoints(here("10.180.0.1")),), NODE, CONFIG, "IPv4")
    after = build((service(),), (), NODE, CONFIG, "IPv4")
    lines = changes(before, after).splitlines()
    assert lines[:2] == [
        "add element ip kube-proxy no-endpoint-services "
        '{ 172.30.0.41 . tcp . 80 comment "ns1/svc1:p80" : goto reject-chain }',
        "delete element ip kube-proxy service-ips { 172.30.0.41 . tcp . 80 }",
    ]
    assert changes(after, after) == ""


@pytest.mark.lab
@settings(max_examples=40, deadline=None)
@given(clusters(), clusters())
def test_changes_lead_the_kernel_where_the_whole_text_leads(before: Cluster, after: Cluster):
    for family in ("IPv4", "IPv6"):
        first = build(before.services, before.slices, before.node, before.config, family)
        then = build(after.services, after.slices, after.node, after.config, family)
        assert loaded(first.text(), changes(first, then)) == loaded(then.text())


@pytest.mark.lab
@settings(max_examples=15, deadline=None)
@given(clusters(), st.data())
def test_endpoints_that_change_need_no_reading_of_the_table(cluster: Cluster, data: st.DataObject):
    """One endpoint of a slice goes to another address: the kernel comes to hold what the whole text makes."""
    slices = [each for each in cluster.slices if each.endpoints and each.address_type == "IPv4"]
    if not slices:
        return
    chosen = data.draw(st.sampled_from(slices))
    moved = replace(chosen.endpoints[0], addresses=("10.250.0.1",))
    changed = replace(chosen, endpoints=(moved, *chosen.endpoints[1:]))
    after = [changed if each is chosen else each for each in cluster.slices]
    first = build(cluster.services, cluster.slices, cluster.node, cluster.config, "IPv4")
    then = build(cluster.services, after, cluster.node, cluster.config, "IPv4")
    unread = unread_changes(first, then)
    assert (unread is None) == any(each.dynamic and each not in then.sets for each in first.sets)
    if unread is not None:
        assert loaded(first.text(), unread + deleted_chains(then, gone_chains(first, then))) == loaded(then.text())


def large_cluster(count: int) -> tuple[list[Service], list[EndpointSlice]]:
    """`count` Services with a node port and three endpoints each."""
    services, slices = [], []
    for number in range(count):
        high, low = divmod(number, 250)
        meta = ObjectMeta(f"svc{number}", f"ns{number % 50}")
        ports = (ServicePort(80, "TCP", "http", 8080, 30000 + number % 2768 if number < 2768 else 0),)
        services.append(Service(meta, "NodePort", (f"172.30.{high}.{low}",), ports))
        each = tuple(Endpoint((f"10.{1 + index}.{high}.{low}",), node_name=f"node{index}") for index in range(3))
        slice_meta = ObjectMeta(f"{meta.name}-1", meta.namespace)
        slices.append(EndpointSlice(slice_meta, meta.name, "IPv4", each, (EndpointPort(8080, "TCP", "http"),)))
    return services, slices


def test_5000_services_with_3_endpoints_are_written():
    services, slices = large_cluster(5000)
    node, config = Node("node1", ("192.168.0.2",)), ProxyConfig(mode="nftables", cluster_cidrs=("10.0.0.0/8",))
    text = build(services, slices, node, config, "IPv4").text()
    assert text.count("dnat to") == 15000


def test_one_changed_endpoint_of_5000_services_changes_a_few_lines():
    services, slices = large_cluster(5000)
    node, config = Node("node1", ("192.168.0.2",)), ProxyConfig(mode="nftables", cluster_cidrs=("10.0.0.0/8",))
    seen = view(services, slices, node, "IPv4")
    before = build_from_view(seen, config)
    before.text()

    slices[17] = replace(slices[17], endpoints=slices[17].endpoints[:2])
    after = build_from_view(view(services, slices, node, "IPv4", seen), config, before)
    text = changes(before, after)
    assert len(text.splitlines()) < 10


@settings(max_examples=50, deadline=None)
@given(clusters(), clusters(), st.sampled_from(["IPv4", "IPv6"]))
def test_what_is_taken_over_is_what_would_be_made_anew(before: Cluster, after: Cluster, family: IPFamily):
    seen = view(before.services, before.slices, before.node, family)
    first = build_from_view(seen, before.config)
    then = build_from_view(view(after.services, after.slices, after.node, family, seen), after.config, first)
    assert then == build(after.services, after.slices, after.node, after.config, family)
