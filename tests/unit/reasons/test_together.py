"""What only many flows show: an uneven choice, and a balancer that does not heed the health of its nodes."""

from __future__ import annotations

from hoplab.hops.evidence import RuleId, RuleText, Tuple
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.reasons.facts import Facts, HealthFact
from hoplab.reasons.together import Many, reasons_together
from hoplab.report.run import explain_by

SENT = Tuple("203.0.113.10", 40000, "198.51.100.10", 80)
ROLES = {"lb": "balancer", "node1": "node", "node2": "node"}
EXPLAIN = explain_by(
    {
        f"KUBE-SEP-{name}": f"endpoint 10.1.2.{at}:80 (pod default/{name}) of default/web"
        for at, name in enumerate("ABC", 2)
    }
)
MAP = "dnat ip to jhash ip saddr mod 2 map { 0 : 10.240.0.11 . 30080, 1 : 10.240.0.12 . 30080 }"
ONE = "dnat ip to jhash ip saddr mod 1 map { 0 : 10.240.0.12 . 30080 }"
MARKS = (
    "meta mark set jhash ip saddr mod 2 map { 0 : 0x0af0000b, 1 : 0x0af0000c } update @flows { ip saddr : meta mark }"
)
ONE_MARK = "meta mark set jhash ip saddr mod 1 map { 0 : 0x0af0000c } update @flows { ip saddr : meta mark } accept"


def hop(node: str, *hits: RuleHit, to: str = "10.1.2.2") -> Hop:
    after = Tuple(SENT.src, SENT.sport, to, 80)
    return Hop(node, "eth0", "eth0", SENT, after, 64, 63, ("DNAT",), hits)


def chose(chain: str, rule: str = "-m statistic --mode random --probability 0.5") -> Flow:
    hit = RuleHit(
        "nat", "KUBE-SVC-X", f"-A KUBE-SVC-X {rule} -j KUBE-SEP-{chain}", f"jump KUBE-SEP-{chain}", "prerouting"
    )
    return Flow("f", "tcp", "accepted", (hop("node1", hit),), ())


def loaded(*chains: str) -> dict[RuleId, RuleText]:
    found = {}
    for handle, chain in enumerate(chains, 1):
        key = RuleId("node1", "ip", "nat", "KUBE-SVC-X", handle)
        found[key] = RuleText(key, f"-A KUBE-SVC-X -j KUBE-SEP-{chain}")
    for chain in "ABC":
        key = RuleId("node1", "ip", "nat", f"KUBE-SEP-{chain}", 1)
        found[key] = RuleText(key, f"-A KUBE-SEP-{chain} -j DNAT")
    return found


def test_even_counts_say_nothing() -> None:
    flows = [chose(name) for name in "ABC" * 20]
    assert reasons_together(Many(flows, loaded(*"ABC"), explain=EXPLAIN)) == ()


def test_uneven_counts_name_the_service_the_node_and_the_counts() -> None:
    flows = [chose("A")] * 54 + [chose("B")] * 3 + [chose("C")] * 3
    (reason,) = reasons_together(Many(flows, loaded(*"ABC"), explain=EXPLAIN))
    assert (reason.cause, reason.node, reason.object) == ("uneven-choice", "node1", "default/web")
    assert "(pod default/A) 54" in reason.words


def test_an_endpoint_that_no_rule_leads_to_needs_no_statistics() -> None:
    (reason,) = reasons_together(Many([chose("A"), chose("B")], loaded(*"AB"), explain=EXPLAIN))
    assert "no rule of it leads to 10.1.2.4:80 (pod default/C)" in reason.words


def test_what_is_remembered_is_no_choice() -> None:
    flows = [chose("A", "-m recent --rcheck --seconds 60")] * 60
    assert reasons_together(Many(flows, loaded(*"ABC"), explain=EXPLAIN)) == ()


def handed(rule: str, to: str, node: str, healthy1: bool = True) -> Many:
    hit = RuleHit("balancer", "frontend", rule, "accept", "prerouting", "default/web: new flow")
    flow = Flow("f", "tcp", "accepted", (hop("lb", hit, to=to), hop(node)), ())
    health = tuple(
        HealthFact(f"node{n}", f"10.240.0.1{n}", 10256, n == 2 or healthy1, "HTTP", "default/web") for n in (1, 2)
    )
    return Many([flow], facts=Facts(ROLES, health=health))


def test_a_balancer_that_heeds_health() -> None:
    assert reasons_together(handed(MAP, "10.240.0.11", "node1")) == ()
    assert reasons_together(handed(MARKS, SENT.dst, "node1")) == ()
    assert reasons_together(handed(ONE, "10.240.0.12", "node2", healthy1=False)) == ()


def test_a_balancer_that_uses_a_sick_node_or_leaves_a_sound_one_out() -> None:
    for many, words in (
        (handed(MAP, "10.240.0.11", "node1", healthy1=False), "lb hands flows to node1, which fails its health check"),
        (handed(MARKS, SENT.dst, "node1", healthy1=False), "lb hands flows to node1, which fails its health check"),
        (handed(ONE, "10.240.0.12", "node2"), "lb hands no flow to node1, which passes its health check"),
        (handed(ONE_MARK, SENT.dst, "node2"), "lb hands no flow to node1, which passes its health check"),
    ):
        (reason,) = reasons_together(many)
        assert (reason.cause, reason.node, reason.object) == ("health-check", "lb", "default/web")
        assert reason.words == words
