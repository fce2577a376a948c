"""The way of a packet through one namespace: which hooks in which order, when nat is asked, what routing decides."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Host, Interface, Packet, PolicyRule, Route
from hoplab.model.prediction import Prediction
from hoplab.model.rules import Ruleset, RulesetError, joined
from hoplab.model.walk import merged, outcomes
from tests.unit.model.bench import NODE, only

FORWARDED = Packet("203.0.113.9", 40000, "10.180.0.1", 80, in_interface="eth0")
DELIVERED = replace(FORWARDED, dst="192.168.0.2")
OWN = Packet("192.168.0.2", 40000, "10.180.0.1", 80)
AWAY = replace(FORWARDED, dst="8.8.8.8")
LOOPED = replace(OWN, dst="192.168.1.2")
EVERY_HOOK = "\n".join(
    f"chain {hook}-{priority} {{ type filter hook {hook} priority {priority}; counter\n}}"
    for hook in ("prerouting", "input", "forward", "output", "postrouting")
    for priority in (-10, 10)
)


def met(prediction: Prediction) -> list[str]:
    return [step.chain for step in prediction.path if step.rule != "policy"]


@pytest.mark.parametrize(
    ("packet", "hooks"),
    [
        (FORWARDED, ["prerouting", "forward", "postrouting"]),
        (DELIVERED, ["prerouting", "input"]),
        (OWN, ["output", "postrouting"]),
        (LOOPED, ["output", "postrouting", "prerouting", "input"]),
    ],
)
def test_hooks_in_order_and_chains_by_priority(packet: Packet, hooks: list[str]):
    prediction = only(parse_nft(f"table inet t {{ {EVERY_HOOK} }}"), packet)
    assert met(prediction) == [f"{hook}-{priority}" for hook in hooks for priority in (-10, 10)]
    assert prediction.delivered is (hooks[-1] == "input")


def test_of_equal_priorities_the_chain_hooked_last_comes_first():
    """As the kernel does it (nf_hook_entries_grow); tried in Linux 6.18."""
    text = "table ip {name} {{ chain {name} {{ type filter hook forward priority 0; counter\n}} }}\n"
    assert met(only(parse_nft(text.format(name="a") + text.format(name="b")), FORWARDED)) == ["b", "a"]
    apart = joined(parse_nft(text.format(name="a")), parse_nft(text.format(name="b")))
    assert met(only(apart, FORWARDED)) == ["b", "a"]


def test_iptables_tables_stand_at_their_priorities():
    lines = []
    for table in ("filter", "nat", "mangle", "raw"):
        lines += [f"*{table}", "-A PREROUTING -j LOG" if table != "filter" else "-A FORWARD -j LOG", "COMMIT"]
    prediction = only(parse_iptables("\n".join(lines)), FORWARDED)
    assert [step.table for step in prediction.path if step.rule != "policy"] == ["raw", "mangle", "nat", "filter"]


class TestNat:
    TEXT = """
    table ip t {
        chain early { type filter hook prerouting priority -101; ip daddr 10.180.0.1 counter
        }
        chain dnat { type nat hook prerouting priority 50; ip daddr 10.180.0.1 meta l4proto tcp dnat to 10.180.0.2:81
        }
        chain late { type filter hook prerouting priority -99; ip daddr 10.180.0.2 counter
        }
        chain check { type filter hook forward priority 0; ip daddr 10.180.0.2 tcp dport 81 ct status dnat counter
        }
    }"""

    def test_all_nat_chains_run_at_nats_own_place_and_forward_sees_the_new_destination(self):
        prediction = only(parse_nft(self.TEXT), FORWARDED)
        assert met(prediction) == ["early", "dnat", "late", "check"]
        assert prediction.endpoint == "10.180.0.2:81"

    @pytest.mark.parametrize("state", ["established", "related", "invalid", "untracked"])
    def test_only_new_connections_are_asked_for(self, state: str):
        prediction = only(parse_nft(self.TEXT), replace(FORWARDED, ct_state=state))
        assert met(prediction) == ["early"]
        assert prediction.outcome == "unhandled"

    def test_notrack_means_no_nat(self):
        raw = "table ip raw { chain c { type filter hook prerouting priority raw; notrack\n} }"
        assert met(only(joined(parse_nft(self.TEXT), parse_nft(raw)), FORWARDED)) == ["c", "early"]

    def test_the_first_nat_rule_decides_for_all_tables(self):
        rule = "meta l4proto tcp dnat to 10.180.0.{2}"
        text = f"table ip {{0}} {{{{ chain c {{{{ type nat hook prerouting priority {{1}}; {rule}\n}}}} }}}}\n"
        ruleset = parse_nft(text.format("second", -90, 8) + text.format("first", -110, 7))
        assert only(ruleset, FORWARDED).endpoint == "10.180.0.7:80"

    def test_a_nat_chain_that_accepts_leaves_it_to_the_next(self):
        accepts = "table ip first { chain c { type nat hook prerouting priority -110; accept\n} }\n"
        rule = "meta l4proto tcp dnat to 10.180.0.8"
        then = f"table ip second {{ chain c {{ type nat hook prerouting priority -90; {rule}\n}} }}"
        assert only(parse_nft(accepts + then), FORWARDED).endpoint == "10.180.0.8:80"

    def test_what_a_host_sends_itself_meets_nat_on_its_way_out_only(self):
        text = (
            "table ip t { chain out { type nat hook output priority -100; meta l4proto tcp dnat to 192.168.0.2:81\n}\n"
            "chain in { type nat hook prerouting priority -100; meta l4proto tcp dnat to 192.168.0.2:82\n} }"
        )
        prediction = only(parse_nft(text), LOOPED)
        assert (prediction.endpoint, prediction.delivered) == ("192.168.0.2:81", True)

    def test_a_rewritten_packet_of_the_hosts_own_is_routed_anew(self):
        text = "table ip t { chain c { type nat hook output priority -100; meta l4proto tcp dnat to 10.200.0.1\n} }"
        assert only(parse_nft(text), OWN).next_hop == "192.168.0.3"

    def test_dnat_to_the_same_destination_is_none_to_conntrack_but_the_rule_took_it(self):
        text = (
            "table ip t { chain c { type nat hook prerouting priority -100; meta l4proto tcp dnat to 10.180.0.1:80\n}\n"
            "chain f { type filter hook forward priority 0; ct status dnat drop\n} }"
        )
        assert only(parse_nft(text), FORWARDED).outcome == "accepted"

    def test_masquerade_is_told_even_when_the_address_stays(self):
        text = "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
        prediction = only(parse_iptables(text), replace(OWN, src="10.180.0.254"))
        assert (prediction.masqueraded, prediction.source) == (True, "10.180.0.254")


class TestVerdicts:
    def test_accept_ends_its_base_chain_only(self):
        text = (
            "table ip t { chain a { type filter hook forward priority 0; accept\n}\n"
            "chain b { type filter hook forward priority 1; drop\n} }"
        )
        assert only(parse_nft(text), FORWARDED).outcome == "dropped"

    @pytest.mark.parametrize(("how", "outcome"), [("jump", "rejected"), ("goto", "dropped")])
    def test_jump_comes_back_goto_does_not(self, how: str, outcome: str):
        text = (
            f"table ip t {{ chain c {{ type filter hook forward priority 0; policy drop; {how} other\nreject\n}}\n"
            "chain other { counter\n} }"
        )
        assert only(parse_nft(text), FORWARDED).outcome == outcome

    def test_goto_in_a_chain_that_was_jumped_to_comes_back_to_the_jump(self):
        text = (
            "table ip t { chain c { type filter hook forward priority 0; jump a\nreject\n}\n"
            "chain a { goto b\ndrop\n}\nchain b { return\n} }"
        )
        assert only(parse_nft(text), FORWARDED).outcome == "rejected"

    def test_the_reason_names_who_decided(self):
        assert only(parse_iptables("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"), FORWARDED).reason.endswith("policy drop")
        rule = "*filter\n-A FORWARD -j REJECT --reject-with tcp-reset\nCOMMIT\n"
        assert only(parse_iptables(rule), FORWARDED).reason == "filter FORWARD: REJECT with tcp-reset"


class TestRefusedAtWalking:
    @pytest.mark.parametrize("how", ["-j", "-g"])
    def test_a_loop_is_named(self, how: str):
        text = f"*filter\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A A {how} B\n-A B {how} A\nCOMMIT\n"
        with pytest.raises(RulesetError, match="FORWARD -> A -> B -> A"):
            outcomes(parse_iptables(text), FORWARDED, NODE)

    def test_a_chain_may_be_met_twice_without_a_loop(self):
        text = "*filter\n:A - [0:0]\n-A FORWARD -j A\n-A FORWARD -j A\n-A A -j LOG\nCOMMIT\n"
        assert met(only(parse_iptables(text), FORWARDED)) == ["FORWARD", "A", "FORWARD", "A"]

    @pytest.mark.parametrize(("depth", "loads"), [(15, True), (16, False)])
    def test_jumps_go_as_deep_as_the_kernel_takes(self, depth: int, loads: bool):
        chains = "".join(f":C{number} - [0:0]\n" for number in range(1, depth + 1))
        jumps = "".join(f"-A C{number} -j C{number + 1}\n" for number in range(1, depth))
        ruleset = parse_iptables(f"*filter\n{chains}-A FORWARD -j C1\n{jumps}COMMIT\n")
        if loads:
            assert only(ruleset, FORWARDED).passes
        else:
            with pytest.raises(RulesetError, match="deeper"):
                outcomes(ruleset, FORWARDED, NODE)


ROUTER = Host(
    interfaces=(Interface("eth0", ("203.0.113.2/24",)), Interface("eth1", ("10.240.0.2/16",))),
    routes=(Route("default", "eth0", "203.0.113.1"), Route("default", "eth1", "10.240.0.11", table=100)),
    policy_rules=(PolicyRule(100, 100, mark=0x5),),
    forward=True,
)


class TestRouting:
    def decision(self, packet: Packet, host: Host = ROUTER, ruleset: Ruleset | None = None) -> Prediction:
        return only(ruleset or Ruleset(), packet, host)

    def test_the_longest_prefix_wins_then_the_metric(self):
        more = (
            Route("10.1.0.0/16", "eth1", "10.240.0.9", metric=5),
            Route("10.1.2.0/24", "eth1", "10.240.0.12"),
            Route("10.1.0.0/16", "eth1", "10.240.0.8", metric=1),
        )
        host = replace(ROUTER, routes=(*ROUTER.routes, *more))
        packet = Packet("203.0.113.9", 1, "10.1.2.9", 80, in_interface="eth0")
        assert self.decision(packet, host).next_hop == "10.240.0.12"
        assert self.decision(replace(packet, dst="10.1.3.9"), host).next_hop == "10.240.0.8"

    def test_a_network_on_the_link_needs_no_gateway(self):
        assert self.decision(Packet("203.0.113.9", 1, "10.240.3.4", 80, in_interface="eth0")).next_hop == "10.240.3.4"

    def test_a_mark_that_rules_set_chooses_the_table(self):
        ruleset = parse_nft("table ip t { chain c { type filter hook prerouting priority -150; meta mark set 5\n} }")
        packet = Packet("203.0.113.9", 1, "198.51.100.10", 80, in_interface="eth0")
        prediction = self.decision(packet, ruleset=ruleset)
        assert (prediction.out_interface, prediction.next_hop) == ("eth1", "10.240.0.11")
        assert self.decision(packet).next_hop == "203.0.113.1"

    @pytest.mark.parametrize(
        ("packet", "host", "outcome", "reason"),
        [
            (AWAY, replace(ROUTER, routes=()), "rejected", "no route"),
            (replace(AWAY, in_interface=""), replace(ROUTER, routes=()), "dropped", "no route"),
            (AWAY, replace(ROUTER, forward=False), "dropped", "forwarding is off"),
            (replace(FORWARDED, src="203.0.113.2"), ROUTER, "dropped", "own address but came from outside"),
            (replace(FORWARDED, dst="127.0.0.1"), ROUTER, "dropped", "route_localnet"),
            (AWAY, replace(ROUTER, routes=(Route("default", kind="blackhole"),)), "dropped", "blackhole"),
            (AWAY, replace(ROUTER, routes=(Route("default", kind="prohibit"),)), "rejected", "prohibited"),
            (AWAY, replace(ROUTER, routes=(Route("default", kind="unreachable"),)), "rejected", "no route"),
        ],
    )
    def test_what_routing_refuses(self, packet: Packet, host: Host, outcome: str, reason: str):
        prediction = self.decision(packet, host)
        assert prediction.outcome == outcome
        assert reason in prediction.reason

    @pytest.mark.parametrize(("rp_filter", "outcome"), [(0, "unhandled"), (1, "dropped"), (2, "unhandled")])
    def test_the_reverse_path_filter(self, rp_filter: int, outcome: str):
        host = replace(ROUTER, interfaces=(ROUTER.interfaces[0], replace(ROUTER.interfaces[1], rp_filter=rp_filter)))
        packet = Packet("8.8.8.8", 1, "203.0.113.50", 80, in_interface="eth1")
        assert self.decision(packet, host).outcome == outcome

    def test_broadcast_is_delivered(self):
        assert self.decision(replace(FORWARDED, dst="203.0.113.255", in_interface="eth0"), ROUTER).delivered

    def test_an_address_of_its_own_without_interface(self):
        host = replace(ROUTER, local_addresses=("198.51.100.10",))
        assert self.decision(replace(FORWARDED, dst="198.51.100.10"), host).delivered


def test_equal_outcomes_are_merged():
    text = "*filter\n-A FORWARD -m statistic --mode random --probability 0.25 -j ACCEPT\n-A FORWARD -j ACCEPT\nCOMMIT\n"
    found = outcomes(parse_iptables(text), FORWARDED, NODE)
    assert [each.probability for each in found] == [Fraction(1, 4), Fraction(3, 4)]
    (whole,) = merged(found)
    assert whole.probability == 1
    assert whole.path == found[1].path, "the path of the most probable way stands for all"


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (replace(FORWARDED, dst="fd00::1"), "one family"),
        (replace(FORWARDED, protocol="carrier-pigeon"), "carrier-pigeon"),
        (replace(FORWARDED, src="nowhere"), "nowhere"),
    ],
)
def test_a_packet_that_is_none(packet: Packet, words: str):
    with pytest.raises(ValueError, match=words):
        outcomes(Ruleset(), packet, NODE)


def test_a_table_given_twice():
    with pytest.raises(RulesetError, match="ip t is given twice"):
        joined(parse_nft("table ip t { }"), parse_nft("table ip t { }"))
