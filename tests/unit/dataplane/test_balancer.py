"""What the simulated cloud load balancer's configuration says, line by line.

That the kernel and HAProxy do what these texts say is proved in test_balancer_kernel.py.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.dataplane.balancer import (
    PROVIDERS,
    Backend,
    Balancer,
    BalancerError,
    Frontend,
    PolicyRoute,
    balancer_changes,
    balancer_tables,
    balancer_text,
    local_addresses,
    policy_route,
    policy_routes,
)
from hoplab.dataplane.haproxy import haproxy_config
from hoplab.dataplane.nft_text import Table

NODE1 = Backend("node1", "10.240.0.11", 30080)
NODE2 = Backend("node2", "10.240.0.12", 30080)
SERVICE_B = Frontend("198.51.100.10", 80, "TCP", "default/service-b", (NODE1, NODE2))
CHAIN = "frontend-198.51.100.10-tcp-80"


def chain(table: Table, name: str) -> list[str]:
    """The rules of a chain, without comments."""
    return [rule.body for each in table.chains if each.name == name for rule in each.rules]


def ipv4(balancer: Balancer) -> Table:
    return balancer_tables(balancer)[0]


def test_hash_is_over_addresses_ports_and_protocol_with_a_fixed_seed():
    assert chain(ipv4(Balancer("hash", "nat", (SERVICE_B,))), CHAIN) == [
        "meta l4proto tcp dnat ip to "
        "jhash ip saddr . ip daddr . th sport . th dport . meta l4proto mod 2 seed 0x686f706c "
        "map { 0 : 10.240.0.11 . 30080, 1 : 10.240.0.12 . 30080 }"
    ]


def test_round_robin_counts_new_flows():
    assert chain(ipv4(Balancer("round-robin", "nat", (SERVICE_B,))), CHAIN) == [
        "meta l4proto tcp dnat ip to numgen inc mod 2 map { 0 : 10.240.0.11 . 30080, 1 : 10.240.0.12 . 30080 }"
    ]


def test_the_whole_text_of_a_nat_balancer():
    assert balancer_text(Balancer("round-robin", "nat", (SERVICE_B,), inside=("10.240.0.0/16",))).splitlines()[:20] == [
        "add table ip balancer",
        "delete table ip balancer",
        'add table ip balancer { comment "the simulated load balancer" ; }',
        "add chain ip balancer prerouting { type nat hook prerouting priority -100 ; }",
        "add chain ip balancer unbalanced { type filter hook prerouting priority -90 ; }",
        "add chain ip balancer postrouting { type nat hook postrouting priority 100 ; }",
        'add set ip balancer vips { type ipv4_addr ; comment "addresses that the balancer answers for" ; }',
        "add map ip balancer frontends { type ipv4_addr . inet_proto . inet_service : verdict ; "
        'comment "one chain for each address, protocol and port" ; }',
        "add map ip balancer unavailable { type ipv4_addr . inet_proto . inet_service : verdict ; "
        'comment "frontends for which no node passes its check" ; }',
        "add rule ip balancer prerouting ip daddr . meta l4proto . th dport vmap @frontends",
        "add rule ip balancer unbalanced ip daddr . meta l4proto . th dport vmap @unavailable",
        "add rule ip balancer unbalanced ip daddr @vips drop "
        'comment "a balancer forwards the ports of its frontends only"',
        "add rule ip balancer postrouting ip saddr { 10.240.0.0/16 } ct status dnat masquerade "
        'comment "from the cluster, back into the cluster"',
        "add element ip balancer vips { 198.51.100.10 }",
        "# default/service-b",
        f"add chain ip balancer {CHAIN}",
        f"add rule ip balancer {CHAIN} meta l4proto tcp dnat ip to numgen inc mod 2 "
        'map { 0 : 10.240.0.11 . 30080, 1 : 10.240.0.12 . 30080 } comment "default/service-b"',
        f'add element ip balancer frontends {{ 198.51.100.10 . tcp . 80 comment "default/service-b" : goto {CHAIN} }}',
        "add table ip6 balancer",
        "delete table ip6 balancer",
    ]


def test_every_rule_of_a_frontend_names_its_service():
    for mode in ("nat", "passthrough"):
        for backends in ((NODE1, NODE2), ()):
            table = ipv4(Balancer("hash", mode, (replace(SERVICE_B, backends=backends),)))
            rules = [rule for each in table.chains if each.name.endswith(CHAIN[8:]) for rule in each.rules]
            assert rules
            assert all(rule.comment.startswith("default/service-b") for rule in rules)


def test_without_candidates_a_new_flow_is_dropped_or_rejected():
    empty = (replace(SERVICE_B, backends=()),)
    unavailable = CHAIN.replace("frontend", "unavailable")
    assert chain(ipv4(Balancer(frontends=empty)), unavailable) == ["meta l4proto tcp drop"]
    assert chain(ipv4(Balancer(frontends=empty, no_candidates="reject")), unavailable) == [
        "meta l4proto tcp reject with tcp reset"
    ]
    udp = (Frontend("198.51.100.10", 53, "UDP", "kube-system/dns"),)
    assert chain(ipv4(Balancer(frontends=udp, no_candidates="reject")), "unavailable-198.51.100.10-udp-53") == [
        "meta l4proto udp reject"
    ]


def test_passthrough_keeps_the_destination_and_marks_the_packet_with_its_node():
    table = ipv4(Balancer("hash", "passthrough", (SERVICE_B,)))
    flows = "@flows-198.51.100.10-tcp-80"
    assert chain(table, CHAIN) == [
        f"meta mark set ip saddr . th sport map {flows} update {flows} {{ ip saddr . th sport : meta mark }} accept",
        "meta mark set jhash ip saddr . ip daddr . th sport . th dport . meta l4proto mod 2 seed 0x686f706c "
        "map { 0 : 0x0af0000b, 1 : 0x0af0000c } "
        f"update {flows} {{ ip saddr . th sport : meta mark }} accept",
    ]
    assert chain(table, "untracked") == ["ip daddr @vips notrack"]
    assert "dnat" not in table.text()


def test_the_route_of_a_passthrough_node_depends_on_that_node_alone():
    mark = 0x0AF0000B
    assert policy_route("10.240.0.11") == PolicyRoute(mark=mark, table=mark, via="10.240.0.11")
    assert policy_routes(["10.240.0.12", "10.240.0.11", "10.240.0.12"]) == (
        policy_route("10.240.0.11"),
        policy_route("10.240.0.12"),
    )
    assert 0 < policy_route("fd00::11").mark < 2**32


def test_a_change_of_one_frontend_leaves_the_others_alone():
    other = Frontend("198.51.100.11", 443, "TCP", "default/other", (NODE1, NODE2))
    before = Balancer("round-robin", "nat", (SERVICE_B, other))
    after = Balancer("round-robin", "nat", (replace(SERVICE_B, backends=(NODE2,)), other))
    assert balancer_changes(before, after).splitlines() == [
        f"flush chain ip balancer {CHAIN}",
        f"add rule ip balancer {CHAIN} meta l4proto tcp dnat ip to numgen inc mod 1 "
        'map { 0 : 10.240.0.12 . 30080 } comment "default/service-b"',
    ]


def test_a_new_frontend_is_added_and_a_gone_one_removed():
    other = Frontend("198.51.100.11", 443, "TCP", "default/other", (NODE1,))
    one, both = Balancer("round-robin", "nat", (SERVICE_B,)), Balancer("round-robin", "nat", (SERVICE_B, other))
    name = "frontend-198.51.100.11-tcp-443"
    assert balancer_changes(one, both).splitlines() == [
        f"add chain ip balancer {name}",
        f"add rule ip balancer {name} meta l4proto tcp dnat ip to numgen inc mod 1 "
        'map { 0 : 10.240.0.11 . 30080 } comment "default/other"',
        "add element ip balancer vips { 198.51.100.11 }",
        f'add element ip balancer frontends {{ 198.51.100.11 . tcp . 443 comment "default/other" : goto {name} }}',
    ]
    assert balancer_changes(both, one).splitlines() == [
        "delete element ip balancer vips { 198.51.100.11 }",
        "delete element ip balancer frontends { 198.51.100.11 . tcp . 443 }",
        f"flush chain ip balancer {name}",
        f"delete chain ip balancer {name}",
    ]


def test_passthrough_changes_do_not_touch_remembered_flows():
    before = Balancer("hash", "passthrough", (SERVICE_B,))
    after = Balancer("hash", "passthrough", (replace(SERVICE_B, backends=(NODE2,)),))
    assert [line.split()[:2] for line in balancer_changes(before, after).splitlines()] == [
        ["flush", "chain"],
        ["add", "rule"],
        ["add", "rule"],
    ]


def test_nothing_changes_when_nothing_changed():
    balancer = Balancer("hash", "nat", (SERVICE_B,))
    assert balancer_changes(balancer, Balancer("hash", "nat", (SERVICE_B,))) == ""
    assert balancer_changes(None, balancer) == balancer_text(balancer)


def test_another_mode_rewrites_everything():
    nat, passthrough = Balancer("hash", "nat", (SERVICE_B,)), Balancer("hash", "passthrough", (SERVICE_B,))
    assert balancer_changes(nat, passthrough).startswith("add table ip balancer\ndelete table ip balancer\n")


def test_ipv6_frontends_have_a_table_of_their_own():
    six = Frontend("2001:db8::10", 80, "TCP", "default/six", (Backend("node1", "fd00::11", 30080),))
    table = balancer_tables(Balancer("hash", "nat", (SERVICE_B, six)))[1]
    assert table.family == "ip6"
    assert chain(table, "frontend-2001.db8..10-tcp-80") == [
        "meta l4proto tcp dnat ip6 to "
        "jhash ip6 saddr . ip6 daddr . th sport . th dport . meta l4proto mod 1 seed 0x686f706c "
        "map { 0 : fd00::11 . 30080 }"
    ]


@given(st.permutations([SERVICE_B, replace(SERVICE_B, port=81), replace(SERVICE_B, vip="198.51.100.9")]), st.booleans())
def test_the_order_of_objects_does_not_matter(frontends: list[Frontend], turned: bool):
    backends = (NODE2, NODE1) if turned else (NODE1, NODE2)
    ordered = Balancer(frontends=(SERVICE_B, replace(SERVICE_B, port=81), replace(SERVICE_B, vip="198.51.100.9")))
    shuffled = Balancer(frontends=tuple(replace(each, backends=backends) for each in frontends))
    assert balancer_text(shuffled) == balancer_text(ordered)


def test_haproxy_round_robin():
    assert haproxy_config(Balancer("round-robin", "proxy", (SERVICE_B,))).splitlines()[11:] == [
        "# default/service-b",
        f"listen {CHAIN}",
        "    bind 198.51.100.10:80",
        "    balance roundrobin",
        "    server node1 10.240.0.11:30080",
        "    server node2 10.240.0.12:30080",
    ]


def test_haproxy_hash_is_over_the_whole_tuple_and_can_announce_the_client():
    assert haproxy_config(Balancer("hash", "proxy", (SERVICE_B,)), send_proxy=True).splitlines()[13:] == [
        "    bind 198.51.100.10:80",
        '    tcp-request content set-var-fmt(sess.tuple) "%[src]:%[src_port]:%[dst]:%[dst_port]"',
        "    balance hash var(sess.tuple)",
        "    hash-type map-based djb2 avalanche",
        "    server node1 10.240.0.11:30080 send-proxy-v2",
        "    server node2 10.240.0.12:30080 send-proxy-v2",
    ]


def test_haproxy_asks_for_a_nodes_health_where_the_balancer_says_so():
    backends = (replace(NODE1, check=10256), replace(NODE2, check=31000))
    assert haproxy_config(Balancer("round-robin", "proxy", (replace(SERVICE_B, backends=backends),))).splitlines()[
        14:
    ] == [
        "    balance roundrobin",
        "    option httpchk GET /healthz",
        "    http-check expect status 200",
        "    server node1 10.240.0.11:30080 check port 10256 no-check-send-proxy",
        "    server node2 10.240.0.12:30080 check port 31000 no-check-send-proxy",
    ]


def test_a_proxying_balancer_leaves_no_nftables_rules_behind():
    assert balancer_text(Balancer("hash", "proxy", (SERVICE_B,))).splitlines() == [
        "add table ip balancer",
        "delete table ip balancer",
        "add table ip balancer",
        "add table ip6 balancer",
        "delete table ip6 balancer",
        "add table ip6 balancer",
    ]


def test_a_proxying_balancer_takes_tcp_only():
    udp = Frontend("198.51.100.10", 53, "UDP", "kube-system/dns", (NODE1,))
    with pytest.raises(BalancerError, match=r"kube-system/dns: .* TCP only, found UDP on 198\.51\.100\.10:53"):
        haproxy_config(Balancer("hash", "proxy", (udp,)))


def test_only_a_proxying_balancer_owns_its_addresses():
    assert local_addresses(Balancer("hash", "proxy", (SERVICE_B, replace(SERVICE_B, port=81)))) == ("198.51.100.10",)
    assert local_addresses(Balancer("hash", "nat", (SERVICE_B,))) == ()


def test_two_services_cannot_share_a_frontend():
    other = replace(SERVICE_B, service="default/other")
    message = r"198\.51\.100\.10:80/tcp is wanted by default/service-b and default/other"
    with pytest.raises(BalancerError, match=message):
        balancer_text(Balancer(frontends=(SERVICE_B, other)))


def test_providers():
    assert {name: (each.algorithm, each.mode) for name, each in PROVIDERS.items()} == {
        "gce": ("hash", "nat"),
        "aws": ("round-robin", "nat"),
        "aws-nlb": ("hash", "nat"),
    }
