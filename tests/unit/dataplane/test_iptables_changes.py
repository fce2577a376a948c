"""From one state of the rules to the next: kube-proxy's partial sync, and that it never leaves a rule behind.

Source of the facts: kube-proxy's TestSyncProxyRulesRepeated and TestSyncProxyRulesLargeClusterMode.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.dataplane.iptables import build, build_from_view
from hoplab.dataplane.iptables_text import Tables, changes
from hoplab.dataplane.view import view
from hoplab.kube.types import Endpoint, EndpointSlice, Service, ServicePort
from tests.unit.dataplane.ipt_kernel import on_paper, saved
from tests.unit.dataplane.ipt_shapes import CONFIG, NODE, SHAPES, anywhere, behind, named
from tests.unit.dataplane.nft_random import Cluster, clusters
from tests.unit.dataplane.nft_shapes import endpoints, here, load_balancer, service

SHARED = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]


def rules(services: tuple[Service, ...], slices: tuple[EndpointSlice, ...]) -> Tables:
    return build(services, slices, NODE, CONFIG, "IPv4")


def nat_chains(text: str) -> list[str]:
    """The chains that a text writes anew in the nat table."""
    return [line[1:].split()[0] for line in text.partition("*nat")[2].splitlines() if line.startswith(":")]


def removed(text: str) -> list[str]:
    return [line.removeprefix("-X ") for line in text.splitlines() if line.startswith("-X ")]


TWO = (named(1), named(2))
TWO_SLICES = (behind(1, anywhere("10.0.1.1")), behind(2, anywhere("10.0.2.1")))


def test_a_new_service_is_written_alone():
    text = changes(rules(TWO, TWO_SLICES), rules((*TWO, named(3)), (*TWO_SLICES, behind(3, anywhere("10.0.3.1")))))
    assert nat_chains(text) == [*SHARED, "KUBE-SVC-X27LE4BHSL4DOUIK", "KUBE-SEP-BSWRHOQ77KEXZLNL"]
    assert removed(text) == []


def test_the_shared_chains_are_written_whole():
    text = changes(rules(TWO, TWO_SLICES), rules((*TWO, named(3)), (*TWO_SLICES, behind(3, anywhere("10.0.3.1")))))
    found = [line for line in text.splitlines() if line.startswith("-A KUBE-SERVICES") and "cluster IP" in line]
    assert len(found) == 3
    assert "-I " not in text


def test_a_deleted_service_takes_its_chains_along():
    text = changes(rules(TWO, TWO_SLICES), rules(TWO[:1], TWO_SLICES))
    gone = ["KUBE-SEP-2SXON6RYLYZ4GEJY", "KUBE-SVC-GNZBNJ2PO5MGZ6GT"]
    assert nat_chains(text) == [*SHARED, *gone]
    assert removed(text) == gone
    assert "svc2" not in text


def test_a_service_without_endpoints_adds_a_rejection_only():
    text = changes(rules(TWO, TWO_SLICES), rules((*TWO, named(4)), TWO_SLICES))
    assert nat_chains(text) == SHARED
    assert '-A KUBE-SERVICES -m comment --comment "ns4/svc4:p80 has no endpoints"' in text


def test_another_endpoint_rewrites_the_services_own_chains():
    text = changes(rules(TWO, TWO_SLICES), rules(TWO, (TWO_SLICES[0], behind(2, anywhere("10.0.2.2")))))
    new, old = "KUBE-SEP-7ZQ3XKTVBLWZ7NCD", "KUBE-SEP-2SXON6RYLYZ4GEJY"
    assert nat_chains(text) == [*SHARED, "KUBE-SVC-GNZBNJ2PO5MGZ6GT", new, old]
    assert removed(text) == [old]


def test_a_change_that_no_rule_shows_rewrites_the_service_all_the_same():
    elsewhere = (TWO_SLICES[0], behind(2, Endpoint(("10.0.2.1",), node_name="node2")))
    text = changes(rules(TWO, TWO_SLICES), rules(TWO, elsewhere))
    assert nat_chains(text) == [*SHARED, "KUBE-SVC-GNZBNJ2PO5MGZ6GT", "KUBE-SEP-2SXON6RYLYZ4GEJY"]


def test_one_port_of_a_service_rewrites_all_its_ports():
    ports = (ServicePort(80, "TCP", "p80"), ServicePort(443, "TCP", "p443"))
    slices = (endpoints(here("10.180.0.1")),)
    text = changes(rules((service(ports[0]), named(2)), slices), rules((service(*ports), named(2)), slices))
    assert nat_chains(text) == [*SHARED, "KUBE-SVC-XPGD46QRK7WJZT7O", "KUBE-SEP-SXIVWICOYRO3J4NJ"]


def test_nothing_changed_writes_the_shared_chains_only():
    state = rules(TWO, TWO_SLICES)
    assert nat_chains(changes(state, state)) == SHARED
    assert nat_chains(changes(state, rules(TWO, TWO_SLICES))) == SHARED


def test_sparing_shared_chains_that_stay():
    before = rules(TWO, TWO_SLICES)
    assert changes(before, before, spare_shared=True) == ""
    after = rules(TWO, (TWO_SLICES[0], behind(2, anywhere("10.0.2.1"), anywhere("10.0.2.2"))))
    text = changes(before, after, spare_shared=True)
    assert nat_chains(text) == [
        "KUBE-SVC-GNZBNJ2PO5MGZ6GT",
        "KUBE-SEP-2SXON6RYLYZ4GEJY",
        "KUBE-SEP-7ZQ3XKTVBLWZ7NCD",
    ]
    assert "filter" not in text


def test_sparing_does_not_spare_shared_chains_that_change():
    before, after = rules(TWO, TWO_SLICES), rules(TWO, TWO_SLICES[:1])
    assert changes(before, after, spare_shared=True) == changes(before, after)


def test_other_settings_rewrite_everything():
    before = rules(TWO, TWO_SLICES)
    after = build(TWO, TWO_SLICES, NODE, replace(CONFIG, masquerade_bit=9), "IPv4")
    assert changes(before, after) == after.text(jumps=False)


def test_settings_that_need_a_chain_no_more_empty_it():
    before = rules(TWO, TWO_SLICES)
    after = build(TWO, TWO_SLICES, NODE, replace(CONFIG, localhost_node_ports=False), "IPv4")
    assert ":KUBE-FIREWALL - [0:0]" in changes(before, after)
    assert "-A KUBE-FIREWALL" not in changes(before, after)


def test_no_text_leads_from_one_release_to_another():
    shape = SHAPES["kubernetes-1.7-nginx-nodeport"]
    old = build(shape.services, shape.slices, NODE, shape.config, "IPv4")
    with pytest.raises(ValueError, match="one release of kube-proxy"):
        changes(old, rules(TWO, TWO_SLICES))


def test_kubernetes_1_7_always_writes_everything():
    shape = SHAPES["kubernetes-1.7-nginx-nodeport"]
    before = build(shape.services, shape.slices, NODE, shape.config, "IPv4")
    after = build(shape.services, (), NODE, shape.config, "IPv4")
    text = changes(before, after)
    assert nat_chains(text)[:5] == [*SHARED, "KUBE-SVC-37ROJ3MK6RKFMQ2B"]
    assert removed(text) == ["KUBE-SEP-AYS7I6ZPYFC6YNNF", "KUBE-SEP-SVVBOHTYP7PAP3J5"]


def test_a_cluster_that_grows_large_keeps_the_comments_it_has():
    crowd = behind(1, *(anywhere(f"10.0.{number // 250}.{number % 250 + 1}") for number in range(999)))
    seen = view(TWO, (crowd, TWO_SLICES[1]), NODE, "IPv4")
    before = build_from_view(seen, CONFIG)
    larger = (crowd, behind(2, anywhere("10.0.2.1"), anywhere("10.0.2.2")))
    after = build_from_view(view(TWO, larger, NODE, "IPv4", seen), CONFIG, before)
    text = changes(before, after)
    written = [line for line in text.splitlines() if "-j DNAT" in line]
    assert len(written) == 2
    assert not any("comment" in line for line in written)
    assert on_paper(before.text(), text) == on_paper(after.text())


def as_iptables(cluster: Cluster, release: str) -> list[Tables]:
    config = replace(cluster.config, mode="iptables", kubernetes=release)
    return [build(cluster.services, cluster.slices, cluster.node, config, family) for family in ("IPv4", "IPv6")]


RELEASES = st.sampled_from(["1.33", "1.7"])


@settings(max_examples=150, deadline=None)
@given(clusters(), clusters(), RELEASES, st.booleans(), st.booleans())
def test_changes_lead_where_the_whole_text_leads(
    before: Cluster, after: Cluster, release: str, spare_shared: bool, same_settings: bool
):
    if same_settings:
        after = replace(after, config=before.config)
    for first, then in zip(as_iptables(before, release), as_iptables(after, release), strict=True):
        lead = changes(first, then, spare_shared=spare_shared)
        assert on_paper(first.text(), lead) == on_paper(then.text())


@pytest.mark.lab
@settings(max_examples=15, deadline=None)
@given(clusters(), clusters(), RELEASES, st.booleans())
def test_changes_lead_the_kernel_where_the_whole_text_leads(
    before: Cluster, after: Cluster, release: str, spare_shared: bool
):
    after = replace(after, config=before.config)
    for first, then in zip(as_iptables(before, release), as_iptables(after, release), strict=True):
        lead = changes(first, then, spare_shared=spare_shared)
        assert saved(then.family, first.text(), lead) == saved(then.family, then.text())


def test_paper_refuses_what_iptables_would_refuse():
    text = rules((load_balancer(),), (endpoints(here("10.180.0.1")),)).text()
    with pytest.raises(AssertionError, match="is not there"):
        on_paper(text, "*nat\n:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]\n-X KUBE-SEP-SXIVWICOYRO3J4NJ\nCOMMIT\n")
    with pytest.raises(AssertionError, match="has rules"):
        on_paper(text, "*nat\n-X KUBE-SEP-SXIVWICOYRO3J4NJ\nCOMMIT\n")
