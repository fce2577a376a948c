"""What holds for every ruleset and packet: probabilities sum to 1, walks end, modes agree, text is read or refused."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoplab.dataplane.config import ProxyConfig
from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Packet
from hoplab.model.rules import RulesetError, Unsupported
from hoplab.model.walk import merged, outcomes
from tests.unit.dataplane.nft_random import Cluster, clusters
from tests.unit.dataplane.nft_shapes import NODE as KUBE_NODE
from tests.unit.dataplane.nft_shapes import endpoints, here, service
from tests.unit.model.bench import NODE, OUTSIDE, POD, SELF, Fate, certainly, fates, rules_of, walked
from tests.unit.model.kernel_bench import NODE as SMALL
from tests.unit.model.kernel_bench import SENDERS
from tests.unit.model.random_rules import PACKETS, iptables_rulesets, nft_rulesets

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Asked = tuple[str, str, int]


def packet_of(asked: Asked) -> Packet:
    src, dst, dport = asked
    return Packet(src, 40000, dst, dport, "udp", in_interface=SENDERS[src][1], tcp_flags=())


@FAST
@given(text=iptables_rulesets(), asked=PACKETS)
def test_probabilities_sum_to_exactly_one_iptables(text: str, asked: Asked):
    found = outcomes(parse_iptables(text), packet_of(asked), SMALL)
    assert sum(each.probability for each in found) == 1
    assert all(each.probability > 0 for each in found)
    assert sum(each.probability for each in merged(found)) == 1


@FAST
@given(text=nft_rulesets(), asked=PACKETS)
def test_probabilities_sum_to_exactly_one_nft(text: str, asked: Asked):
    found = outcomes(parse_nft(text), packet_of(asked), SMALL)
    assert sum(each.probability for each in found) == 1
    assert all(each.probability > 0 for each in found)
    assert fates(merged(found)) == fates(found)


@FAST
@given(
    chains=st.lists(
        st.lists(st.tuples(st.sampled_from(["-j", "-g"]), st.integers(0, 7)), max_size=3), min_size=8, max_size=8
    )
)
def test_every_walk_ends_whatever_leads_where(chains: list[list[tuple[str, int]]]):
    lines = ["*filter", *(f":C{number} - [0:0]" for number in range(8)), "-A FORWARD -j C0"]
    lines += [f"-A C{number} {how} C{to}" for number, jumps in enumerate(chains) for how, to in jumps]
    ruleset = parse_iptables("\n".join([*lines, "COMMIT"]))
    packet = Packet("203.0.113.9", 40000, "10.180.0.1", 80, in_interface="eth0")
    refusal, found = "", ()
    try:
        found = outcomes(ruleset, packet, NODE)
    except RulesetError as error:
        refusal = str(error)
    if has_loop(chains):
        assert "loop" in refusal
    else:
        assert [each.outcome for each in found] == ["unhandled"]


def has_loop(chains: list[list[tuple[str, int]]]) -> bool:
    """Whether a walk from the first chain comes to a chain that it is still in; what stands after a goto is not met."""

    def walk(number: int, way: tuple[int, ...]) -> bool:
        if number in way:
            return True
        for how, to in chains[number]:
            if walk(to, (*way, number)):
                return True
            if how == "-g":
                return False
        return False

    return walk(0, ())


NONSENSE = st.sampled_from(
    [
        "{",
        "}",
        ";",
        "!",
        "-m",
        "-j",
        '"',
        "10.0.0.1/",
        "vmap",
        "map",
        "@",
        ":",
        "set",
        "0x",
        "..",
        "\n",
        "*",
        "--dport",
        "COMMIT",
    ]
)


@FAST
@given(text=st.one_of(iptables_rulesets(), nft_rulesets()), cut=st.floats(0, 1), put=st.lists(NONSENSE, max_size=3))
def test_spoiled_text_is_read_or_refused_with_a_line(text: str, cut: float, put: list[str]):
    at = int(len(text) * cut)
    spoiled = f"{text[:at]} {' '.join(put)}"
    parse = parse_iptables if text.startswith("*") else parse_nft
    refusal = None
    try:
        parse(spoiled)
    except Unsupported as error:
        refusal = error
    if refusal is not None:
        assert 1 <= refusal.line <= spoiled.count("\n") + 1
        assert refusal.text == spoiled.split("\n")[refusal.line - 1].strip()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 33])
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_every_endpoint_has_exactly_its_share(mode: str, count: int):
    slices = (endpoints(*(here(f"10.180.0.{number}") for number in range(10, 10 + count))),)
    ruleset = rules_of((service(),), slices, KUBE_NODE, ProxyConfig(mode=mode), "IPv4")
    found = walked(ruleset, POD)
    assert len(found) == count
    assert set(found.values()) == {Fraction(1, count)}


Outcomes = dict[Fate, Fraction]
REFUSALS = {Fate("rejected"), Fate("dropped")}


def questions(cluster: Cluster) -> list[Packet]:
    """Every address and port of every Service, asked for from everywhere."""
    asked = []
    for asked_for in cluster.services:
        addresses = [each for each in (*asked_for.cluster_ips, *asked_for.external_ips) if "." in each]
        addresses += [each.ip for each in asked_for.load_balancer_ingress if "." in each.ip and each.ip_mode == "VIP"]
        for port in asked_for.ports:
            places = [(address, port.port) for address in addresses]
            places += [("192.168.0.2", port.node_port)] if port.node_port else []
            for address, number in places:
                for sender in (POD, OUTSIDE, SELF, replace(OUTSIDE, src="203.0.113.130")):
                    asked.append(replace(sender, dst=address, dport=number, protocol=port.protocol.lower()))
    return asked


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cluster=clusters())
def test_both_modes_foretell_the_same_for_every_service(cluster: Cluster):
    by_mode = {}
    for mode in ("iptables", "nftables"):
        ranges = cluster.config.service_ip_ranges if mode == "nftables" else ()
        config = replace(cluster.config, mode=mode, service_ip_ranges=ranges)
        by_mode[mode] = rules_of(cluster.services, cluster.slices, cluster.node, config, "IPv4")
    for packet in questions(cluster):
        iptables, nftables = (walked(by_mode[mode], packet) for mode in ("iptables", "nftables"))
        assert iptables == nftables or known_difference(cluster, packet, iptables, nftables), packet


def known_difference(cluster: Cluster, packet: Packet, iptables: Outcomes, nftables: Outcomes) -> bool:
    """Where kube-proxy's modes differ by design, for external addresses that nobody can answer.

    The node's own packets: iptables mode lets them go (KUBE-EXTERNAL-SERVICES hangs on INPUT and FORWARD only).
    Senders outside the source ranges: iptables mode makes the firewall chain only when there are endpoints.
    """
    if packet.dst.startswith("172.30."):
        return False
    if not packet.in_interface and iptables == certainly("unhandled"):
        return set(nftables) <= REFUSALS
    ranged = {
        each.ip for asked_for in cluster.services if asked_for.load_balancer_source_ranges
        for each in asked_for.load_balancer_ingress
    }  # fmt: skip
    return packet.dst in ranged and (iptables, nftables) == (certainly("rejected"), certainly("dropped"))
