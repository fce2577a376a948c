"""Whole flows foretold: from the client by the balancer and the nodes to the pods, in both modes of kube-proxy."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hoplab.dataplane.config import ProxyMode
from hoplab.model.cluster_walk import FlowPrediction, foretell, remembering, summary
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Packet
from hoplab.model.rules import Ruleset
from hoplab.model.state import Unforeseeable
from tests.unit.model.cloud import CLIENT, CLUSTER_IP, PODS, balancer, behind, cloud, service, with_rules

MODES: list[ProxyMode] = ["iptables", "nftables"]
ROUND_ROBIN = balancer(algorithm="round-robin")


def told(predictions: tuple[FlowPrediction, ...]) -> dict[tuple[str, ...], tuple[str, str, bool, Fraction]]:
    assert sum(each.probability for each in predictions) == 1
    return {each.nodes: (each.outcome, each.endpoint, each.masqueraded, each.probability) for each in predictions}


@pytest.mark.parametrize("mode", MODES)
def test_from_outside_by_a_node_without_the_pod(mode: ProxyMode):
    cluster = cloud(service(), behind("d"), mode=mode, lb=ROUND_ROBIN)
    assert told(foretell(cluster, CLIENT, "client")) == {
        ("client", "lb", "node1", "node2", "pod/d"): ("accepted", "10.1.2.3:80", True, Fraction(1, 2)),
        ("client", "lb", "node2", "pod/d"): ("accepted", "10.1.2.3:80", True, Fraction(1, 2)),
    }


@pytest.mark.parametrize("mode", MODES)
def test_the_hash_of_a_tuple_picks_one_node(mode: ProxyMode):
    cluster = cloud(service(), behind("d"), mode=mode)
    by_port = {
        port: [each.nodes[2] for each in foretell(cluster, replace(CLIENT, sport=port), "client")]
        for port in range(40000, 40016)
    }
    assert all(len(nodes) == 1 for nodes in by_port.values())
    assert {nodes[0] for nodes in by_port.values()} == {"node1", "node2"}


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_multiply_along_the_way(mode: ProxyMode):
    cluster = cloud(service(), behind("a", "b", "c"), mode=mode, lb=ROUND_ROBIN)
    found = told(foretell(cluster, CLIENT, "client"))
    assert found["client", "lb", "node1", "pod/a"] == ("accepted", "10.1.1.2:80", True, Fraction(1, 6))
    assert found["client", "lb", "node1", "node2", "pod/c"] == ("accepted", "10.1.2.2:80", True, Fraction(1, 6))
    assert len(found) == 6


@pytest.mark.parametrize("mode", MODES)
def test_each_hop_tells_what_changed_there(mode: ProxyMode):
    cluster = cloud(service(), behind("d"), mode=mode)
    node1 = next(each for each in summary(foretell(cluster, replace(CLIENT, sport=40003), "client")))
    lb, first = node1.hops[1], node1.hops[2]
    assert (lb.in_interface, lb.out_interface) == ("eth0", "eth1")
    assert (lb.before.dst, lb.after.dst) == (
        "198.51.100.10",
        {"node1": "10.240.0.11", "node2": "10.240.0.12"}[first.node],
    )
    assert [hop.masqueraded for hop in node1.hops] == [hop is first for hop in node1.hops]
    assert any("KUBE-SEP" in step.chain or "endpoint-" in step.chain for step in first.path)
    assert first.after.mark == 0


@pytest.mark.parametrize("mode", MODES)
def test_policy_local_keeps_the_address_and_drops_where_no_pod_is(mode: ProxyMode):
    cluster = cloud(service(external_traffic_policy="Local"), behind("d"), mode=mode, lb=ROUND_ROBIN)
    found = told(foretell(cluster, CLIENT, "client"))
    assert found["client", "lb", "node2", "pod/d"] == ("accepted", "10.1.2.3:80", False, Fraction(1, 2))
    assert found["client", "lb", "node1"][0] == "dropped"


@pytest.mark.parametrize("mode", MODES)
def test_passthrough_brings_the_packet_unchanged_to_a_node(mode: ProxyMode):
    cluster = cloud(service(), behind("d"), mode=mode, lb=balancer("passthrough", "round-robin"))
    predictions = foretell(cluster, CLIENT, "client")
    assert {each.nodes for each in predictions} == {
        ("client", "lb", "node1", "node2", "pod/d"),
        ("client", "lb", "node2", "pod/d"),
    }
    assert all(each.hops[1].after.dst == "198.51.100.10" for each in predictions)
    for first in predictions:
        again = foretell(remembering(cluster, first), CLIENT, "client")
        assert [each.nodes for each in again] == [first.nodes], "the balancer remembers the flow"


class TestFromPods:
    def told(self, pod: str, dst: str, *pods: str, mode: ProxyMode = "iptables") -> dict[tuple[str, ...], object]:
        packet = Packet(PODS[pod][1], 40000, dst, 80)
        return dict(told(foretell(cloud(service(), behind(*pods), mode=mode), packet, f"pod/{pod}")))

    @pytest.mark.parametrize("mode", MODES)
    def test_to_a_service(self, mode: ProxyMode):
        assert self.told("a", CLUSTER_IP, "b", "c", mode=mode) == {
            ("pod/a", "node1", "pod/b"): ("accepted", "10.1.1.3:80", False, Fraction(1, 2)),
            ("pod/a", "node1", "node2", "pod/c"): ("accepted", "10.1.2.2:80", False, Fraction(1, 2)),
        }

    @pytest.mark.parametrize("mode", MODES)
    def test_to_itself_by_a_service(self, mode: ProxyMode):
        assert self.told("a", CLUSTER_IP, "a", mode=mode) == {
            ("pod/a", "node1", "pod/a"): ("accepted", "10.1.1.2:80", True, Fraction(1)),
        }

    def test_to_a_pod_on_the_same_bridge_meets_the_nodes_rules(self):
        assert self.told("a", "10.1.1.3", "d") == {
            ("pod/a", "node1", "pod/b"): ("accepted", "10.1.1.3:80", False, Fraction(1)),
        }

    def test_to_a_pod_on_another_node(self):
        assert self.told("a", "10.1.2.3", "d") == {
            ("pod/a", "node1", "node2", "pod/d"): ("accepted", "10.1.2.3:80", False, Fraction(1)),
        }


class TestEnds:
    CLUSTER = cloud(service(), behind("d"))

    def only(self, packet: Packet, at: str = "client") -> FlowPrediction:
        (prediction,) = foretell(self.CLUSTER, packet, at)
        return prediction

    def test_a_port_where_nothing_listens_refuses_what_no_rule_took(self):
        prediction = self.only(replace(CLIENT, dst="10.240.0.11", dport=31000))
        assert (prediction.outcome, prediction.nodes) == ("unhandled", ("client", "lb", "node1"))
        assert "nothing listens on tcp port 31000 in node1" in prediction.reason

    def test_a_port_where_nothing_listens_behind_a_rule_is_refused(self):
        wrong_port = replace(behind("d"), ports=(replace(behind("d").ports[0], port=81),))
        (prediction,) = foretell(
            cloud(service(), wrong_port), replace(CLIENT, dst="10.240.0.12", dport=30080), "client"
        )
        assert (prediction.outcome, prediction.endpoint) == ("rejected", "10.1.2.3:81")

    def test_without_knowing_who_listens_a_rule_decides(self):
        station = self.CLUSTER["pod/d"]
        cluster = {**self.CLUSTER, "pod/d": replace(station, host=replace(station.host, listens=None))}
        assert {each.outcome for each in foretell(cluster, CLIENT, "client")} == {"accepted"}
        direct = Packet("10.1.1.2", 40000, "10.1.2.3", 80)
        assert {each.outcome for each in foretell(cluster, direct, "pod/a")} == {"unhandled"}

    def test_echo_requests_are_answered_by_every_host(self):
        assert self.only(Packet("203.0.113.10", 7, "10.240.0.11", 0, "icmp")).outcome == "accepted"

    def test_an_address_that_nobody_has(self):
        prediction = self.only(replace(CLIENT, dst="203.0.113.77"))
        assert (prediction.outcome, prediction.nodes, prediction.open_end) == ("unhandled", ("client",), True)
        assert "which nobody has" in prediction.reason

    def test_a_loop_between_two_hosts_ends(self):
        prediction = self.only(replace(CLIENT, dst="10.9.9.9"))
        assert prediction.outcome in ("rejected", "unhandled")
        looping = Packet("10.1.1.2", 40000, CLUSTER_IP, 81)
        assert self.only(looping, "pod/a").open_end or self.only(looping, "pod/a").outcome == "rejected"

    def test_a_loop_is_named(self):
        station = self.CLUSTER["router"]
        route = replace(station.host.routes[0], destination="10.9.0.0/16", via="203.0.113.2", interface="eth0")
        cluster = {**self.CLUSTER, "router": replace(station, host=replace(station.host, routes=(route,)))}
        (prediction,) = foretell(cluster, replace(CLIENT, dst="10.9.9.9"), "client")
        assert (prediction.nodes, prediction.open_end) == (("client", "lb", "router"), True)
        assert prediction.reason == "it goes round in a loop: client -> lb -> router -> lb"

    def test_a_firewall_on_the_way(self):
        wall = parse_nft("table ip wall { chain c { type filter hook forward priority 0; tcp dport 30080 drop\n} }")
        cluster = with_rules(self.CLUSTER, "lb", wall)
        (prediction,) = foretell(cluster, replace(CLIENT, dst="10.240.0.11", dport=30080), "client")
        assert (prediction.outcome, prediction.nodes) == ("dropped", ("client", "lb"))
        assert prediction.reason == "lb: wall c: drop"

    def test_a_port_chosen_at_random_can_not_be_asked_for_further_on(self):
        nosy = parse_nft("table ip t { chain c { type filter hook input priority 0; tcp sport 40000 drop\n} }")
        cluster = with_rules(self.CLUSTER, "pod/d", nosy)
        with pytest.raises(Unforeseeable, match=r"pod/d: line 1: .*source port"):
            foretell(cluster, CLIENT, "client")

    def test_a_name_that_is_none(self):
        with pytest.raises(KeyError, match="no namespace is called 'nobody'"):
            foretell(self.CLUSTER, CLIENT, "nobody")

    def test_marks_end_with_the_namespace(self):
        marks = "table ip t {{ chain c {{ type filter hook prerouting priority -150; meta mark {} {}\n}} }}"
        cluster = with_rules(self.CLUSTER, "lb", parse_nft(marks.format("set", 7)))
        cluster = with_rules(cluster, "node1", parse_nft(marks.format(7, "drop")))
        (prediction,) = foretell(cluster, replace(CLIENT, dst="10.240.0.11"), "client")
        assert prediction.outcome == "unhandled"

    def test_without_rules_packets_are_routed(self):
        cluster = {name: replace(station, ruleset=Ruleset()) for name, station in self.CLUSTER.items()}
        (prediction,) = foretell(cluster, Packet("10.1.1.2", 1, "203.0.113.10", 80), "pod/a")
        assert (prediction.outcome, prediction.nodes) == ("accepted", ("pod/a", "node1", "lb", "client"))
