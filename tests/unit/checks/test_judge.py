"""Judging: each expectation passes on flows that show it, and fails on those that show something else or too little."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.checks.judge import judge, takes
from hoplab.checks.spec import Expect, FlowSpec, Place, Source, Target
from hoplab.hops.evidence import Loss, Tuple
from hoplab.hops.story import Flow, Hop, RuleHit

CLIENT, VIP, NODE, POD_C, POD_D = "203.0.113.10", "10.240.0.11", "10.240.0.11", "10.1.1.3", "10.1.2.4"
NODES = ("node1", "node2")
SERVICE = RuleHit("nat", "KUBE-SVC-ABCDEFGHIJKLMNOP", "...", "jump KUBE-SEP-ABCDEFGHIJKLMNOP")
OTHER = RuleHit("nat", "KUBE-SERVICES", "...", "return")
MASQUERADE = RuleHit("nat", "KUBE-POSTROUTING", "-j MASQUERADE --random-fully", "accept")
REJECT = RuleHit("filter", "KUBE-SERVICES", "-j REJECT", "drop")
NFT = RuleHit("kube-proxy", "service-ABCDEFGH-ns1/svc1/tcp/p80", "...", "accept", family="ip")


def delivered(to: str = POD_D, *, port: int = 80, rules: tuple[RuleHit, ...] = (SERVICE, MASQUERADE)) -> Flow:
    """client -> node1 (DNAT, masquerade) -> pod, and the answer home."""
    asked = Tuple(CLIENT, 40000, VIP, 30080)
    inside = Tuple(NODE, 50000, to, port)
    pod = f"pod/{to}"
    forward = (
        Hop("client", None, "eth0", asked, asked, None, 64, frames=(1,)),
        Hop("node1", "eth0", "cni0", asked, inside, 64, 63, ("DNAT", "SNAT"), rules, (2, 3)),
        Hop(pod, "eth0", None, inside, inside, 63, None, frames=(4,)),
    )
    back, home = inside.reversed(), asked.reversed()
    reply = (
        Hop(pod, None, "eth0", back, back, None, 64, frames=(5,)),
        Hop("node1", "cni0", "eth0", back, home, 64, 63, ("SNAT", "DNAT"), (), (6, 7)),
        Hop("client", "eth0", None, home, home, 63, None, frames=(8,)),
    )
    return Flow("a", "tcp", "accepted", forward, reply, sender="client")


def ended_at_node(*rules: RuleHit, outcome: str = "unanswered", after: Tuple | None = None) -> Flow:
    asked = Tuple(CLIENT, 40000, VIP, 30080)
    forward = (
        Hop("client", None, "eth0", asked, asked, None, 64, frames=(1,)),
        Hop("node1", "eth0", None, asked, after or asked, 64, None, (), rules, (2,)),
    )
    return Flow("a", "tcp", outcome, forward, (), sender="client", reason="silence")  # type: ignore[arg-type]


def verdicts(expect: Expect, *flows: Flow, hops: tuple[str, ...] = (), choice: bool = False) -> dict[str, bool]:
    spec = FlowSpec("a", Source("client"), Target("node1", 30080, "tcp"), expect, Place("a.yaml", 1))
    checks = judge(spec, flows, nodes=NODES, hops=hops, choice=choice)
    assert all(check.name.startswith("a: ") and check.expected and check.observed for check in checks)
    return {check.name.removeprefix("a: "): check.passed for check in checks}


def test_nothing_is_judged_that_is_not_asked():
    assert verdicts(Expect(outcome="accepted"), delivered()) == {"outcome": True}


def test_one_probe_of_many_is_enough_to_fail():
    good, bad = delivered(), ended_at_node(REJECT)
    assert verdicts(Expect(outcome="accepted"), good, good) == {"outcome": True}
    assert verdicts(Expect(outcome="accepted"), good, bad, good) == {"outcome": False}


class TestUnhandled:
    def test_rules_that_pass_it_on(self):
        assert verdicts(Expect(outcome="unhandled"), ended_at_node(OTHER)) == {"outcome": True}

    @pytest.mark.parametrize("rule", [SERVICE, REJECT, NFT])
    def test_a_rule_that_takes_it(self, rule):
        assert verdicts(Expect(outcome="unhandled"), ended_at_node(OTHER, rule)) == {"outcome": False}

    def test_a_rewrite_that_no_rule_shows(self):
        moved = ended_at_node(OTHER, after=Tuple(CLIENT, 40000, POD_D, 80))
        assert verdicts(Expect(outcome="unhandled"), moved) == {"outcome": False}

    def test_without_a_trace_nothing_is_proved(self):
        assert verdicts(Expect(outcome="unhandled"), ended_at_node()) == {"outcome": False}

    def test_lost_traces_prove_nothing(self):
        flow = replace(ended_at_node(OTHER), losses=(Loss("node1", "trace", 3, "buffer"),))
        assert verdicts(Expect(outcome="unhandled"), flow) == {"outcome": False}

    def test_what_no_node_saw(self):
        flow = ended_at_node(OTHER)
        assert verdicts(Expect(outcome="unhandled"), replace(flow, forward=flow.forward[:1])) == {"outcome": False}


@pytest.mark.parametrize(
    ("hit", "expected"),
    [
        (SERVICE, True),
        (OTHER, False),
        (REJECT, True),
        (NFT, True),
        (RuleHit("kube-proxy", "firewall-check", "...", "end of chain"), False),
        (RuleHit("kube-proxy", "firewall-ABCDEFGH-ns1/a/tcp/p", "...", "drop"), True),
        (RuleHit("kube-proxy", "reject-chain", "reject", "reject"), True),
        (RuleHit("filter", "FORWARD", "-j DROP", "drop"), False),
        (RuleHit("nat", "KUBE-MARK-MASQ", "...", "return"), False),
    ],
)
def test_which_rules_take_a_packet(hit, expected):
    assert takes(hit) is expected


class TestMasqueraded:
    def test_a_rule_of_a_node(self):
        assert verdicts(Expect(masqueraded=True), delivered()) == {"masqueraded": True}
        assert verdicts(Expect(masqueraded=False), delivered()) == {"masqueraded": False}

    def test_none(self):
        flow = delivered(rules=(SERVICE,))
        assert verdicts(Expect(masqueraded=True), flow) == {"masqueraded": False}
        assert verdicts(Expect(masqueraded=False), flow) == {"masqueraded": True}

    def test_a_machine_that_is_no_node_does_not_count(self):
        flow = delivered(rules=(OTHER,))
        balancer = replace(flow.forward[1], node="lb", rules=(MASQUERADE,))
        flow = replace(flow, forward=(flow.forward[0], balancer, *flow.forward[1:]))
        assert verdicts(Expect(masqueraded=False), flow) == {"masqueraded": True}

    @pytest.mark.parametrize("wanted", [True, False])
    def test_without_a_trace_nothing_is_proved(self, wanted):
        assert verdicts(Expect(masqueraded=wanted), delivered(rules=())) == {"masqueraded": False}


class TestEndpoints:
    BOTH = ((POD_C, 80), (POD_D, 80))

    def test_any_of_them(self):
        assert verdicts(Expect(endpoints=self.BOTH), delivered(POD_C), delivered(POD_D)) == {"endpoints": True}

    def test_one_that_is_not_among_them(self):
        assert verdicts(Expect(endpoints=self.BOTH), delivered(POD_C), delivered("10.1.1.9")) == {"endpoints": False}

    def test_another_port(self):
        assert verdicts(Expect(endpoints=self.BOTH), delivered(POD_C, port=81)) == {"endpoints": False}

    def test_each_must_answer_when_they_are_to_be_spread(self):
        expect = Expect(endpoints=self.BOTH, spread="each")
        some = [delivered(POD_C)] * 5
        assert verdicts(expect, *some, delivered(POD_D)) == {"endpoints": True, "spread": True}
        assert verdicts(expect, *some) == {"endpoints": True, "spread": False}

    def test_even_shares(self):
        expect = Expect(endpoints=self.BOTH, spread="even")
        assert verdicts(expect, *[delivered(POD_C)] * 52, *[delivered(POD_D)] * 48)["spread"]
        assert not verdicts(expect, *[delivered(POD_C)] * 80, *[delivered(POD_D)] * 20)["spread"]


class TestHops:
    WAY = ("client", "node1", f"pod/{POD_D}")

    def test_every_probe_goes_that_way(self):
        expect = Expect(hops=self.WAY)
        assert verdicts(expect, delivered(), delivered(), hops=self.WAY) == {"hops": True}
        assert verdicts(expect, delivered(), delivered(POD_C), hops=self.WAY) == {"hops": False}

    def test_one_is_enough_where_somebody_chooses(self):
        expect = Expect(hops=self.WAY)
        assert verdicts(expect, delivered(POD_C), delivered(), hops=self.WAY, choice=True) == {"hops": True}
        assert verdicts(expect, delivered(POD_C), hops=self.WAY, choice=True) == {"hops": False}
