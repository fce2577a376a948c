"""kube-proxy's iptables mode, line by line: one fixture for each shape of Service, and what holds for all of them.

A fixture's head says what to compare it with in kube-proxy's own tests, and which fixture holds the fixed part;
comments in that one show where the lines of the shape belong.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.dataplane import iptables_names as names
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.iptables import build, build_from_view
from hoplab.dataplane.iptables_service import probability
from hoplab.dataplane.view import view
from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, Node, ObjectMeta, Service, ServicePort
from tests.unit.dataplane.ipt_kernel import listing, saved, take
from tests.unit.dataplane.ipt_shapes import CONFIG, NODE, SHAPES
from tests.unit.dataplane.nft_random import Cluster, clusters
from tests.unit.dataplane.nft_shapes import HEALTHY, endpoints, here, load_balancer, service

FIXTURES = Path(__file__).parents[2] / "fixtures/rules/iptables"


def expected_text(name: str) -> str:
    """The fixture's lines, put where its base has the comment for them."""
    head, _, body = (FIXTURES / f"{name}.rules").read_text().partition("\n\n")
    base = head.splitlines()[-1].removeprefix("# base: ")
    of_filter, _, of_nat = body.partition("*nat\n")
    chains = "".join(line for line in of_nat.splitlines(keepends=True) if line.startswith(":"))
    text = (FIXTURES / f"{base}.rules").read_text()
    for place, lines in (
        ("rules of the filter table", of_filter.removeprefix("*filter\n")),
        ("chains of the nat table", chains),
        ("rules of the nat table", of_nat.removeprefix(chains)),
    ):
        comment = f"# Here come the Services' {place}.\n"
        assert text.count(comment) == 1
        text = text.replace(comment, lines)
    return text


def text_of(name: str) -> str:
    shape = SHAPES[name]
    return build(shape.services, shape.slices, NODE, shape.config, shape.family).text()


@pytest.mark.parametrize("name", SHAPES)
def test_text_of_the_shape(name: str):
    assert text_of(name).splitlines() == expected_text(name).splitlines()


NEEDS_MODULE = {"node-port-counted-on-loopback": "nfacct"}


@pytest.mark.lab
@pytest.mark.parametrize("name", [name for name in SHAPES if name not in NEEDS_MODULE])
def test_iptables_restore_takes_the_shape(name: str):
    take(expected_text(name), SHAPES[name].family)


def test_every_fixture_belongs_to_a_shape():
    fixtures = {path.stem for path in FIXTURES.glob("*.rules")}
    bases = {(FIXTURES / f"{name}.rules").read_text().split("# base: ")[1].split()[0] for name in SHAPES}
    assert fixtures == set(SHAPES) | bases


def test_names_are_those_that_old_books_print():
    label, protocol = "default/nginx-nodeport:", "tcp"
    assert names.service_chain(names.SERVICE, label, protocol) == "KUBE-SVC-37ROJ3MK6RKFMQ2B"
    assert names.endpoint_chain(label, protocol, "10.1.0.4:80") == "KUBE-SEP-SVVBOHTYP7PAP3J5"
    assert names.endpoint_chain(label, protocol, "10.1.0.5:80") == "KUBE-SEP-AYS7I6ZPYFC6YNNF"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        (names.SERVICE, "KUBE-SVC-NUKIZ6OKUXPJNT4C"),
        (names.LOCAL, "KUBE-SVL-NUKIZ6OKUXPJNT4C"),
        (names.EXTERNAL, "KUBE-EXT-NUKIZ6OKUXPJNT4C"),
        (names.FIREWALL, "KUBE-FW-NUKIZ6OKUXPJNT4C"),
    ],
)
def test_names_are_those_of_kube_proxys_tests(prefix: str, name: str):
    assert names.service_chain(prefix, "ns5/svc5:p80", "tcp") == name
    assert names.is_service_chain(name)
    assert len(name) < 29


@pytest.mark.parametrize(("choices", "text"), [(1, "1.0000000000"), (3, "0.3333333333"), (50000, "0.0000200000")])
def test_a_probability_has_ten_digits(choices: int, text: str):
    # kube-proxy's TestComputeProbability.
    assert probability(choices) == text


def test_other_chains_are_nobodys_to_remove():
    assert not any(map(names.is_service_chain, ("KUBE-SERVICES", "KUBE-POSTROUTING", "CNI-25df152800e33f7b16fc085a")))


def test_a_full_sync_removes_the_service_chains_that_nobody_needs():
    tables = build((service(),), (endpoints(here("10.180.0.1")),), NODE, CONFIG, "IPv4")
    existing = {"KUBE-SVC-AAAAAAAAAAAAAAAA", "KUBE-SEP-SXIVWICOYRO3J4NJ", "KUBE-SERVICES", "DOCKER"}
    lines = tables.text(existing=existing).splitlines()
    assert [line for line in lines if line.startswith("-X")] == ["-X KUBE-SVC-AAAAAAAAAAAAAAAA"]
    assert ":KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]" in lines


def test_a_later_full_sync_leaves_the_built_in_chains_alone():
    tables = build((service(),), (), NODE, CONFIG, "IPv4")
    again = tables.text(jumps=False)
    assert "-I " not in again
    first = [line for line in tables.text().splitlines() if not line.startswith("-I")]
    assert again.splitlines() == first


def test_every_rule_says_what_it_is_for():
    tables = build((load_balancer(),), (endpoints(here("10.180.0.1", target_ref="ns1/d")),), NODE, CONFIG, "IPv4")
    about = {name: [rule.about for rule in rules] for (table, name), rules in tables.chains.items() if table == "nat"}
    assert about["KUBE-SERVICES"] == ["cluster IP of ns1/svc1:p80", "load balancer IP of ns1/svc1:p80", "node ports"]
    assert about["KUBE-EXT-XPGD46QRK7WJZT7O"] == [
        "masquerade external traffic of ns1/svc1:p80",
        "external traffic of ns1/svc1:p80",
    ]
    assert about["KUBE-SVC-XPGD46QRK7WJZT7O"] == [
        "masquerade to cluster IP of ns1/svc1:p80",
        "choose endpoint 10.180.0.1:80 (pod ns1/d) of ns1/svc1:p80",
    ]
    assert about["KUBE-SEP-SXIVWICOYRO3J4NJ"] == [
        "masquerade hairpin of endpoint 10.180.0.1:80 (pod ns1/d) of ns1/svc1:p80",
        "DNAT to endpoint 10.180.0.1:80 (pod ns1/d) of ns1/svc1:p80",
    ]


@pytest.mark.lab
@pytest.mark.parametrize("name", ["overall", "affinity-policy-local", "kubernetes-1.7-policy-local"])
def test_the_kernel_lists_the_rules_in_the_order_that_is_told(name: str):
    shape = SHAPES[name]
    tables = build(shape.services, shape.slices, NODE, shape.config, shape.family)
    table, found = "", {}
    for line in saved("IPv4", tables.text()):
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            found.setdefault((table, line.split()[1]), []).append(target(line))
    assert found == {key: [target(rule.line) for rule in rules] for key, rules in tables.chains.items() if rules}


def target(line: str) -> str:
    """Where a rule leads: the word behind -j, empty for a rule that only takes a note."""
    return line.partition(" -j ")[2].split(" ")[0]


@settings(max_examples=50, deadline=None)
@given(clusters(), st.randoms(use_true_random=False), st.sampled_from(["1.33", "1.7"]))
def test_the_order_of_the_objects_does_not_matter(cluster: Cluster, random: Random, release: str):
    config = replace(cluster.config, mode="iptables", kubernetes=release)
    services, slices = list(cluster.services), list(cluster.slices)
    random.shuffle(services)
    random.shuffle(slices)
    for family in ("IPv4", "IPv6"):
        shuffled = build(services, slices, cluster.node, config, family)
        assert shuffled == build(cluster.services, cluster.slices, cluster.node, config, family)


@pytest.mark.lab
@settings(max_examples=25, deadline=None)
@given(clusters(), st.sampled_from(["1.33", "1.7"]))
def test_iptables_restore_takes_every_cluster(cluster: Cluster, release: str):
    config = replace(cluster.config, mode="iptables", kubernetes=release)
    for family in ("IPv4", "IPv6"):
        take(build(cluster.services, cluster.slices, cluster.node, config, family).text(), family)


@pytest.mark.lab
def test_kubernetes_1_7_gives_the_listing_of_its_day():
    # Chain by chain, what `iptables -t nat -nL` printed for a Service with two pods; "6" is tcp, "0" all protocols.
    chains = listing(text_of("kubernetes-1.7-nginx-nodeport"))
    comment = "/* default/nginx-nodeport: */"
    note = "/* kubernetes service nodeports; NOTE: this must be the last rule in this chain */"
    assert chains["KUBE-SERVICES"] == [
        "Chain KUBE-SERVICES (2 references)",
        "KUBE-SVC-37ROJ3MK6RKFMQ2B 6 -- 0.0.0.0/0 10.0.0.167 /* default/nginx-nodeport: cluster IP */ tcp dpt:80",
        f"KUBE-NODEPORTS 0 -- 0.0.0.0/0 0.0.0.0/0 {note} ADDRTYPE match dst-type LOCAL",
    ]
    assert chains["KUBE-SVC-37ROJ3MK6RKFMQ2B"] == [
        "Chain KUBE-SVC-37ROJ3MK6RKFMQ2B (2 references)",
        f"KUBE-SEP-SVVBOHTYP7PAP3J5 0 -- 0.0.0.0/0 0.0.0.0/0 {comment} statistic mode random probability 0.50000000000",
        f"KUBE-SEP-AYS7I6ZPYFC6YNNF 0 -- 0.0.0.0/0 0.0.0.0/0 {comment}",
    ]
    for name, address in (("KUBE-SEP-SVVBOHTYP7PAP3J5", "10.1.0.4"), ("KUBE-SEP-AYS7I6ZPYFC6YNNF", "10.1.0.5")):
        assert chains[name] == [
            f"Chain {name} (1 references)",
            f"KUBE-MARK-MASQ 0 -- {address} 0.0.0.0/0 {comment}",
            f"DNAT 6 -- 0.0.0.0/0 0.0.0.0/0 {comment} tcp to:{address}:80",
        ]
    assert chains["POSTROUTING"][1] == "KUBE-POSTROUTING 0 -- 0.0.0.0/0 0.0.0.0/0 /* kubernetes postrouting rules */"
    assert chains["KUBE-NODEPORTS"][1:] == [
        f"KUBE-MARK-MASQ 6 -- 0.0.0.0/0 0.0.0.0/0 {comment} tcp dpt:32261",
        f"KUBE-SVC-37ROJ3MK6RKFMQ2B 6 -- 0.0.0.0/0 0.0.0.0/0 {comment} tcp dpt:32261",
    ]


def test_kubernetes_1_7_knows_no_ipv6():
    shape = SHAPES["ipv6-node-port"]
    tables = build(shape.services, shape.slices, NODE, ProxyConfig(kubernetes="1.7"), "IPv6")
    assert tables.text() == "*filter\nCOMMIT\n*nat\nCOMMIT\n"


def crowd(count: int) -> EndpointSlice:
    return endpoints(*(Endpoint((f"10.0.{number // 250}.{number % 250 + 1}",)) for number in range(count)))


def test_more_than_1000_endpoints_go_without_comments():
    # kube-proxy's TestSyncProxyRulesLargeClusterMode.
    def dnats(count: int) -> list[str]:
        rules = build((service(),), (crowd(count),), NODE, CONFIG, "IPv4").rules("nat")
        return [rule.line for rule in rules if rule.role == "DNAT to"]

    small, large = dnats(1000), dnats(1001)
    assert all("-m comment --comment ns1/svc1:p80 " in line for line in small)
    assert len(large) == 1001
    assert not any("comment" in line for line in large)


def large_cluster(count: int) -> tuple[list[Service], list[EndpointSlice]]:
    """`count` Services with three endpoints each, every second one with a node port."""
    services, slices = [], []
    for number in range(count):
        high, low = divmod(number, 250)
        meta = ObjectMeta(f"svc{number}", f"ns{number % 50}")
        node_port = 30000 + number // 2 if number % 2 else 0
        ports = (ServicePort(80, "TCP", "http", 8080, node_port),)
        services.append(Service(meta, "NodePort" if node_port else "ClusterIP", (f"172.30.{high}.{low}",), ports))
        each = tuple(Endpoint((f"10.{1 + index}.{high}.{low}",), node_name=f"node{index}") for index in range(3))
        slice_meta = ObjectMeta(f"{meta.name}-1", meta.namespace)
        slices.append(EndpointSlice(slice_meta, meta.name, "IPv4", each, (EndpointPort(8080, "TCP", "http"),)))
    return services, slices


def test_5000_services_with_3_endpoints_are_written():
    services, slices = large_cluster(5000)
    node = Node("node1", ("192.168.0.2",))
    text = build(services, slices, node, CONFIG, "IPv4").text()
    assert text.count("-j DNAT") == 15000


def test_what_stayed_the_same_is_taken_over():
    services, slices = large_cluster(200)
    seen = view(services, slices, NODE, "IPv4")
    before = build_from_view(seen, CONFIG)
    slices[7] = replace(slices[7], endpoints=slices[7].endpoints[:2])
    after = build_from_view(view(services, slices, NODE, "IPv4", seen), CONFIG, before)
    assert after == build(services, slices, NODE, CONFIG, "IPv4")
    old = {id(part) for part in before.parts}
    assert [part.key.name for part in after.parts if id(part) not in old] == ["svc7"]


def test_another_zone_of_the_node_makes_everything_anew():
    shape = SHAPES["cluster-ip-zone-hints"]
    seen = view(shape.services, shape.slices, NODE, "IPv4")
    before = build_from_view(seen, CONFIG)
    elsewhere = replace(NODE, labels={"topology.kubernetes.io/zone": "zone-b"})
    after = build_from_view(view(shape.services, shape.slices, elsewhere, "IPv4", seen), CONFIG, before)
    assert after == build(shape.services, shape.slices, elsewhere, CONFIG, "IPv4")
    assert after != before


def test_a_service_with_endpoints_here_and_there_uses_both():
    tables = build((service(),), (endpoints(*HEALTHY),), NODE, CONFIG, "IPv4")
    assert [rule.endpoint for rule in tables.rules("nat") if rule.role == "choose"] == [
        "10.180.0.1:80",
        "10.180.2.1:80",
    ]
