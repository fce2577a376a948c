"""Whose question for a neighbour it was, and whether anybody answered."""

from __future__ import annotations

from typing import Literal

from hoplab.hops.evidence import Frame
from hoplab.hops.neighbours import ARP_WAIT_NS, asked_in_vain
from hoplab.hops.packet import Arp

POD, PEER, GATEWAY = "10.1.1.2", "10.1.1.3", "10.1.1.1"


def arp(
    number: int, node: str, interface: str, way: Literal["in", "out"], sender: str, target: str, *, request: bool = True
) -> tuple[Frame, Arp]:
    message = Arp(request, "02:00:00:00:00:01", sender, "00:00:00:00:00:00", target)
    return Frame(number, number * 1000, node, interface, way, b"", 42), message


def numbers(found: list[tuple[Frame, Arp]]) -> list[int]:
    return [frame.number for frame, _arp in found]


def test_a_question_that_comes_back_by_a_hairpin_port_is_still_ones_own() -> None:
    seen = [arp(1, "pod/a", "eth0", "out", POD, GATEWAY), arp(2, "pod/a", "eth0", "in", POD, GATEWAY)]
    assert numbers(asked_in_vain(seen, "pod/a", 0)) == [1]


def test_what_a_bridge_only_passes_on_is_not_its_own() -> None:
    seen = [arp(1, "node1", "vetha", "in", POD, PEER), arp(2, "node1", "vethb", "out", POD, PEER)]
    assert asked_in_vain(seen, "node1", 0) == []


def test_an_answer_settles_it() -> None:
    seen = [
        arp(1, "pod/a", "eth0", "out", POD, GATEWAY),
        arp(2, "pod/a", "eth0", "in", GATEWAY, POD, request=False),
        arp(3, "pod/a", "eth0", "out", POD, PEER),
    ]
    assert numbers(asked_in_vain(seen, "pod/a", 0)) == [3]
    assert asked_in_vain(seen, "pod/a", 0, GATEWAY) == []


def test_only_what_was_asked_in_that_time_and_there_counts() -> None:
    seen = [arp(5, "pod/a", "eth0", "out", POD, GATEWAY), arp(6, "pod/b", "eth0", "out", PEER, GATEWAY)]
    assert numbers(asked_in_vain(seen, "pod/a", 5000)) == [5]
    assert asked_in_vain(seen, "pod/a", 5001) == []
    assert asked_in_vain(seen, "pod/a", 5000 - ARP_WAIT_NS - 1) == []
