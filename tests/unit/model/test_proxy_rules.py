"""What kube-proxy's rules do with packets, in both modes: who may answer, masqueraded or not, rejected or dropped.

The expectations are facts that kube-proxy's own tests state (packet flow tests in pkg/proxy/iptables/proxier_test.go
and pkg/proxy/nftables/proxier_test.go), except that a masquerade counts when the rule is met, not when the packet is
marked.
"""

from fractions import Fraction

import pytest

from hoplab.dataplane.config import ProxyConfig
from hoplab.model.packet import Packet
from hoplab.model.walk import outcomes
from tests.unit.dataplane.ipt_shapes import SHAPES as IPTABLES_SHAPES
from tests.unit.dataplane.nft_shapes import CONFIG, SHAPES
from tests.unit.dataplane.nft_shapes import NODE as KUBE_NODE
from tests.unit.model.bench import NODE, OUTSIDE, POD, SELF, Fate, certainly, fates, reached, rules_of, six, to, walked

HERE, THERE = "10.180.0.1:80", "10.180.2.1:80"
BOTH = (HERE, THERE)
IPTABLES = ProxyConfig(mode="iptables", cluster_cidrs=CONFIG.cluster_cidrs)

Row = tuple[str, Packet, dict[Fate, Fraction]]


IN_BOTH_MODES: list[Row] = [
    ("cluster-ip-two-endpoints", POD, reached(*BOTH)),
    ("cluster-ip-two-endpoints", OUTSIDE, reached(*BOTH, masqueraded=True)),
    ("cluster-ip-two-endpoints", SELF, reached(*BOTH, masqueraded=True)),
    ("cluster-ip-no-endpoints", POD, certainly("rejected")),
    ("cluster-ip-no-endpoints", OUTSIDE, certainly("rejected")),
    ("cluster-ip-no-endpoints", SELF, certainly("rejected")),
    ("cluster-ip-endpoint-not-ready", POD, certainly("rejected")),
    ("cluster-ip-tcp-udp-sctp-on-one-port", to(POD, "172.30.0.42", 53, "udp"), reached("10.180.0.1:53")),
    ("cluster-ip-tcp-udp-sctp-on-one-port", to(POD, "172.30.0.42", 53, "tcp"), reached("10.180.0.1:5353")),
    ("cluster-ip-tcp-udp-sctp-on-one-port", to(POD, "172.30.0.42", 53, "sctp"), reached("10.180.0.1:53")),
    ("cluster-ip-zone-hints", POD, reached(HERE)),
    ("affinity", POD, reached(*BOTH)),
    ("node-port", to(OUTSIDE, "192.168.0.2", 3001), reached(*BOTH, masqueraded=True)),
    ("node-port", to(POD, "192.168.0.2", 3001), reached(*BOTH, masqueraded=True)),
    ("node-port", to(SELF, "192.168.0.2", 3001), reached(*BOTH, masqueraded=True)),
    ("node-port", to(OUTSIDE, "192.168.0.2", 3002), certainly("unhandled")),
    ("node-port", to(OUTSIDE, "192.168.0.2", 3001, "udp"), certainly("unhandled")),
    ("node-port", to(OUTSIDE, "192.168.0.3", 3001), certainly("unhandled")),
    ("node-port-no-endpoints", to(OUTSIDE, "192.168.0.2", 3001), certainly("rejected")),
    ("node-port-udp", to(OUTSIDE, "192.168.0.2", 3053, "udp"), reached("10.180.0.1:53", masqueraded=True)),
    ("node-port-sctp", to(OUTSIDE, "192.168.0.2", 3132, "sctp"), reached("10.180.0.1:132", masqueraded=True)),
    ("node-port-local", to(OUTSIDE, "192.168.0.2", 3001), reached(HERE)),
    ("node-port-local", to(POD, "192.168.0.2", 3001), reached(*BOTH)),
    ("node-port-local", to(SELF, "192.168.0.2", 3001), reached(*BOTH, masqueraded=True)),
    ("external-ip", to(OUTSIDE, "192.168.99.33"), reached(*BOTH, masqueraded=True)),
    ("external-ip", to(POD, "192.168.99.33"), reached(*BOTH, masqueraded=True)),
    ("load-balancer", to(OUTSIDE, "1.2.3.4"), reached(*BOTH, masqueraded=True)),
    ("load-balancer", to(OUTSIDE, "192.168.0.2", 3001), reached(*BOTH, masqueraded=True)),
    ("load-balancer", to(OUTSIDE, "1.2.3.4", 81), certainly("unhandled")),
    ("load-balancer-no-endpoints", to(OUTSIDE, "1.2.3.4"), certainly("rejected")),
    ("load-balancer-ip-mode-proxy", to(OUTSIDE, "1.2.3.4"), certainly("unhandled")),
    ("load-balancer-local", to(OUTSIDE, "1.2.3.4"), reached(HERE)),
    ("load-balancer-local", to(OUTSIDE, "192.168.99.11"), reached(HERE)),
    ("load-balancer-local", to(POD, "1.2.3.4"), reached(*BOTH)),
    ("load-balancer-local", to(SELF, "1.2.3.4"), reached(*BOTH, masqueraded=True)),
    ("load-balancer-local-none-here", to(OUTSIDE, "1.2.3.4"), certainly("dropped")),
    ("load-balancer-local-none-here", to(OUTSIDE, "192.168.0.2", 3001), certainly("dropped")),
    ("load-balancer-local-none-here", to(POD, "1.2.3.4"), reached(THERE)),
    ("load-balancer-local-none-here", to(SELF, "1.2.3.4"), reached(THERE, masqueraded=True)),
    ("load-balancer-source-ranges", to(OUTSIDE, "1.2.3.4"), reached(THERE, masqueraded=True)),
    (
        "load-balancer-source-ranges",
        Packet("203.0.113.130", 40000, "1.2.3.4", 80, in_interface="eth0"),
        certainly("dropped"),
    ),
    (
        "load-balancer-source-ranges",
        Packet("203.0.113.130", 40000, "192.168.0.2", 3001, in_interface="eth0"),
        reached(THERE, masqueraded=True),
    ),
    ("load-balancer-source-ranges", to(POD, "1.2.3.4"), certainly("dropped")),
    ("load-balancer-source-ranges-with-this-node", to(SELF, "1.2.3.4"), reached(THERE, masqueraded=True)),
    ("internal-local", POD, reached("10.0.1.1:80", "10.0.1.2:80")),
    ("internal-local-none-here", POD, certainly("dropped")),
    ("internal-local-none-here", SELF, certainly("dropped")),
    ("internal-local-external-cluster", POD, reached(HERE)),
    ("internal-local-external-cluster", to(OUTSIDE, "1.2.3.4"), reached(*BOTH, masqueraded=True)),
    ("internal-and-external-local-none-here", to(OUTSIDE, "1.2.3.4"), certainly("dropped")),
    ("terminating-here-ready-there", to(OUTSIDE, "1.2.3.4"), reached("10.0.1.2:80")),
    ("terminating-here-ready-there", POD, reached("10.0.1.5:80")),
    ("terminating-everywhere", POD, reached("10.0.1.2:80", "10.0.1.5:80")),
    ("terminating-there-only-policy-local", to(OUTSIDE, "1.2.3.4"), certainly("dropped")),
    ("terminating-and-not-serving", POD, certainly("rejected")),
    ("masquerade-all", POD, reached(*BOTH, masqueraded=True)),
    ("another-masquerade-bit", OUTSIDE, reached(*BOTH, masqueraded=True)),
    ("no-detection-of-local-traffic", POD, reached(*BOTH)),
    ("headless-and-external-name", to(POD, "10.180.0.1"), certainly("unhandled")),
    ("ipv6-node-port", six(POD, "fd00:10:96::41"), reached("[fd00:10:180::1]:80", "[fd00:10:180::2:1]:80")),
    (
        "ipv6-node-port",
        six(OUTSIDE, "2001:db8::1", 3001),
        reached("[fd00:10:180::1]:80", "[fd00:10:180::2:1]:80", masqueraded=True),
    ),
    (
        "ipv6-load-balancer-source-ranges",
        six(OUTSIDE, "2001:db8:99::1"),
        reached("[fd00:10:180::1]:80", masqueraded=True),
    ),
    (
        "ipv6-load-balancer-source-ranges",
        Packet("2001:db8:2::9", 40000, "2001:db8:99::1", 80, in_interface="eth0"),
        certainly("dropped"),
    ),
]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize(("shape", "packet", "expected"), IN_BOTH_MODES)
def test_both_modes(mode: str, shape: str, packet: Packet, expected: dict[Fate, Fraction]):
    given = SHAPES[shape]
    config = ProxyConfig(
        mode=mode,
        cluster_cidrs=given.config.cluster_cidrs,
        masquerade_all=given.config.masquerade_all,
        masquerade_bit=given.config.masquerade_bit,
        node_port_addresses=given.config.node_port_addresses,
        service_ip_ranges=given.config.service_ip_ranges if mode == "nftables" else (),
    )
    ruleset = rules_of(given.services, given.slices, KUBE_NODE, config, given.family)
    assert walked(ruleset, packet) == expected


def of(shape: str, mode: str):
    given = SHAPES[shape]
    return rules_of(given.services, given.slices, KUBE_NODE, CONFIG if mode == "nftables" else IPTABLES, given.family)


@pytest.mark.parametrize("name", SHAPES)
def test_every_text_of_nftables_mode_is_understood(name: str):
    given = SHAPES[name]
    assert rules_of(given.services, given.slices, KUBE_NODE, given.config, given.family).tables


@pytest.mark.parametrize("name", IPTABLES_SHAPES)
def test_every_text_of_iptables_mode_is_understood(name: str):
    given = IPTABLES_SHAPES[name]
    assert rules_of(given.services, given.slices, KUBE_NODE, given.config, given.family).tables


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_pod_that_meets_itself_is_masqueraded(mode: str):
    endpoint = Packet("10.180.0.1", 40000, "172.30.0.41", 80, in_interface="cni0")
    assert walked(of("cluster-ip-two-endpoints", mode), endpoint) == {
        **{fate: chance / 2 for fate, chance in reached(HERE, masqueraded=True).items()},
        **{fate: chance / 2 for fate, chance in reached(THERE).items()},
    }


class TestModesDiffer:
    """Where nftables mode is stricter on purpose (KEP-3866)."""

    def test_a_wrong_port_of_a_cluster_ip(self):
        packet = to(POD, "172.30.0.41", 81)
        assert walked(of("cluster-ip", "iptables"), packet) == certainly("unhandled")
        assert walked(of("cluster-ip", "nftables"), packet) == certainly("rejected")

    def test_an_address_of_the_service_network_that_nobody_has(self):
        packet = to(POD, "172.30.0.99")
        assert walked(of("cluster-ip", "iptables"), packet) == certainly("unhandled")
        assert walked(of("cluster-ip", "nftables"), packet) == certainly("dropped")

    def test_a_node_port_on_another_address_of_the_node(self):
        packet = to(OUTSIDE, "192.168.1.2", 3001)
        assert walked(of("node-port", "iptables"), packet) == reached(*BOTH, masqueraded=True)
        assert walked(of("node-port", "nftables"), packet) == certainly("unhandled")

    def test_a_node_port_on_the_loopback_address(self):
        packet = Packet("127.0.0.1", 40000, "127.0.0.1", 3001)
        assert walked(of("node-port", "iptables"), packet) == reached(*BOTH, masqueraded=True)
        assert walked(of("node-port-on-all-addresses", "nftables"), packet) == certainly("unhandled")

    def test_the_nodes_own_request_to_an_external_address_without_endpoints(self):
        packet = to(SELF, "1.2.3.4")
        assert walked(of("load-balancer-no-endpoints", "iptables"), packet) == certainly("unhandled")
        assert walked(of("load-balancer-no-endpoints", "nftables"), packet) == certainly("rejected")

    def test_a_sender_outside_the_source_ranges_of_a_service_without_endpoints(self):
        packet = Packet("203.0.113.130", 40000, "1.2.3.4", 80, in_interface="eth0")
        assert walked(of("load-balancer-source-ranges-no-endpoints", "iptables"), packet) == certainly("rejected")
        assert walked(of("load-balancer-source-ranges-no-endpoints", "nftables"), packet) == certainly("dropped")


def test_loopback_from_outside_is_dropped_where_route_localnet_is_on():
    packet = to(OUTSIDE, "127.0.0.1", 8080)
    assert walked(of("node-port", "iptables"), packet) == certainly("dropped")


def test_an_invalid_packet_is_dropped_in_iptables_mode():
    packet = Packet("203.0.113.9", 40000, "10.180.0.1", 80, in_interface="eth0", ct_state="invalid")
    assert walked(of("cluster-ip", "iptables"), packet) == certainly("dropped")
    assert walked(of("cluster-ip", "nftables"), packet) == certainly("unhandled")


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_affinity_brings_the_same_client_to_the_same_endpoint(mode: str):
    ruleset = of("affinity", mode)
    for first in outcomes(ruleset, POD, NODE):
        after = NODE.remembering(first.remembers)
        again = Packet("10.180.0.9", 41234, "172.30.0.41", 80, in_interface="cni0")
        assert fates(outcomes(ruleset, again, after)) == reached(first.endpoint)
        other = Packet("10.180.0.8", 40000, "172.30.0.41", 80, in_interface="cni0")
        assert fates(outcomes(ruleset, other, after)) == reached(*BOTH)
