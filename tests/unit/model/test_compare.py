"""What was foretold held against what was seen: agreement, and disagreements that a person can read."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hoplab.hops.evidence import Tuple
from hoplab.hops.findings import is_masquerade
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.model.cluster_walk import FlowPrediction, foretell
from hoplab.model.compare import Agreement, compare
from hoplab.model.packet import Packet
from tests.unit.model.cloud import CLIENT, balancer, behind, cloud, service

PREDICTIONS = foretell(cloud(service(), behind("d"), lb=balancer(algorithm="round-robin")), CLIENT, "client")
MASQUERADE = RuleHit("nat", "KUBE-POSTROUTING", "-A KUBE-POSTROUTING -j MASQUERADE --random-fully", "accept")


def seen_tuple(packet: Packet) -> Tuple:
    return Tuple(packet.src, packet.sport or 61234, packet.dst, packet.dport)


def seen_as_foretold(prediction: FlowPrediction, outcome: str = "accepted") -> Flow:
    """A flow that went exactly this way; the kernel chose the port that nobody could foretell."""
    hops = tuple(
        Hop(
            each.node, each.in_interface or None, each.out_interface or None, seen_tuple(each.before),
            seen_tuple(each.after), 64, 63, rules=(MASQUERADE,) if each.masqueraded else (),
        )
        for each in prediction.hops
    )  # fmt: skip
    return Flow("f", "tcp", outcome, hops, ())  # type: ignore[arg-type]


def judged(flow: Flow, predictions: tuple[FlowPrediction, ...] = PREDICTIONS) -> Agreement:
    return compare(flow, predictions, is_masquerade=is_masquerade)


def change_hop(flow: Flow, index: int, **changes: object) -> Flow:
    hops = list(flow.forward)
    hops[index] = replace(hops[index], **changes)  # type: ignore[arg-type]
    return replace(flow, forward=tuple(hops))


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda each: "-".join(each.nodes))
def test_every_way_that_was_foretold_agrees(prediction: FlowPrediction):
    agreement = judged(seen_as_foretold(prediction))
    assert agreement.agrees
    assert agreement.prediction == prediction
    assert "as foretold (probability 1/2)" in agreement.text


LONG = next(each for each in PREDICTIONS if len(each.nodes) == 5)
FLOW = seen_as_foretold(LONG)


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (replace(FLOW, outcome="rejected", reason="RST"), "outcome: seen rejected, foretold accepted"),
        (replace(FLOW, forward=FLOW.forward[:4]), "nodes: seen client -> lb -> node1 -> node2, foretold"),
        (change_hop(FLOW, 2, rules=()), "node1: seen no masquerade, foretold a masquerade"),
        (change_hop(FLOW, 3, rules=(MASQUERADE,)), "node2: seen a masquerade, foretold no masquerade"),
        (
            change_hop(FLOW, 2, after=Tuple("10.240.0.11", 61234, "10.1.2.2", 80)),
            "node1: the destination became 10.1.2.2:80, foretold 10.1.2.3:80",
        ),
        (
            change_hop(FLOW, 2, after=Tuple("10.240.0.99", 61234, "10.1.2.3", 80)),
            "node1: the source became 10.240.0.99, foretold 10.240.0.11",
        ),
        (replace(FLOW, forward=()), "nodes: seen no hop"),
    ],
)
def test_a_disagreement_names_what_differs(flow: Flow, words: str):
    agreement = judged(flow)
    assert not agreement.agrees
    assert words in agreement.text


def test_a_node_that_takes_in_what_it_sent_to_itself_passes_it_once():
    """Over lo a packet is seen sent and taken in; the model walks from the socket to the other one in one go."""
    client = FLOW.forward[0]
    looped = replace(client, in_interface="lo", out_interface=None)
    assert judged(replace(FLOW, forward=(client, looped, *FLOW.forward[1:]))).agrees
    elsewhere = replace(looped, in_interface="eth0")
    assert not judged(replace(FLOW, forward=(client, elsewhere, *FLOW.forward[1:]))).agrees


def test_a_disagreement_shows_both_paths_side_by_side():
    text = judged(change_hop(FLOW, 2, rules=())).text
    assert "the nearest of 2 ways foretold (probability 1/2)" in text
    side_by_side = [line for line in text.splitlines() if " | " in line]
    assert side_by_side[0].split("|")[1].strip() == "foretold"
    (node1,) = [line for line in side_by_side if line.startswith("node1:")]
    seen, foretold = node1.split(" | ")
    assert seen.rstrip() == "node1: 203.0.113.10:40000 -> 10.240.0.11:30080 => 10.240.0.11:61234 -> 10.1.2.3:80"
    assert foretold == "node1: 203.0.113.10:40000 -> 10.240.0.11:30080 => 10.240.0.11:* -> 10.1.2.3:80"
    assert any(line.endswith("KUBE-POSTROUTING: MASQUERADE to 10.240.0.11") for line in side_by_side)


def test_what_can_not_happen_agrees_with_nothing():
    impossible = tuple(replace(each, probability=Fraction(0)) for each in PREDICTIONS)
    assert not judged(FLOW, impossible).agrees
    assert judged(FLOW, ()).text == "nothing was foretold"


@pytest.mark.parametrize(
    ("foretold", "seen", "agrees"),
    [
        ("dropped", "dropped", True),
        ("dropped", "unanswered", True),
        ("dropped", "rejected", False),
        ("rejected", "rejected", True),
        ("rejected", "unanswered", True),
        ("accepted", "unanswered", False),
        ("unhandled", "rejected", True),
        ("unhandled", "unanswered", True),
    ],
)
def test_how_each_outcome_may_look(foretold: str, seen: str, agrees: bool):
    prediction = replace(LONG, outcome=foretold)  # type: ignore[arg-type]
    assert judged(replace(FLOW, outcome=seen), (prediction,)).agrees is agrees  # type: ignore[arg-type]


def test_where_the_way_goes_on_unknown_only_its_beginning_counts():
    beginning = replace(LONG, hops=LONG.hops[:3], open_end=True)
    assert judged(FLOW, (beginning,)).agrees
    assert not judged(FLOW, (replace(beginning, open_end=False),)).agrees


def test_whoever_answers_where_nobody_is_known_was_made_by_hand_unless_he_is_known_after_all():
    """A namespace that somebody made inside a node is no part of the cluster, and answers all the same."""
    nobody = replace(LONG, outcome="dropped", hops=LONG.hops[:3], open_end=True)
    ended = replace(FLOW, forward=FLOW.forward[:3])
    assert judged(ended, (nobody,)).agrees
    assert not judged(FLOW, (nobody,)).agrees
    assert not judged(ended, (replace(nobody, open_end=False),)).agrees
    assert not judged(ended, (replace(nobody, outcome="rejected"),)).agrees
