"""The evaluator against the kernel: for random small rulesets, real packets do only what was foretold for them.

Each ruleset is loaded into a node in namespaces of its own and packets are sent through it.  What the kernel lists
afterwards must foretell the same as what was loaded, and what a packet did must be among what was foretold.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Packet
from hoplab.model.rules import Ruleset
from hoplab.model.walk import outcomes
from tests.unit.model.kernel_bench import NODE, KernelBench, seen_as
from tests.unit.model.random_rules import PACKETS, iptables_rulesets, nft_rulesets

pytestmark = pytest.mark.lab

LESS = settings(
    max_examples=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
Foretold = dict[tuple[Any, ...], Fraction]


@pytest.fixture(scope="module")
def bench() -> Iterator[KernelBench]:
    network = KernelBench()
    yield network
    network.close()


def foretold(ruleset: Ruleset, packet: Packet) -> Foretold:
    found: Foretold = defaultdict(Fraction)
    for each in outcomes(ruleset, packet, NODE):
        found[seen_as(each)] += each.probability
    assert sum(found.values()) == 1
    return dict(found)


def hold_against(packets: Sequence[Packet], loaded: Ruleset, listed: Ruleset, seen: Sequence[tuple[Any, ...]]) -> None:
    for packet, fate in zip(packets, seen, strict=True):
        expected = foretold(loaded, packet)
        assert foretold(listed, packet) == expected, f"{packet}: the listing foretells something else"
        assert fate in expected, f"{packet}: the kernel did {fate}, foretold were {expected}"


@LESS
@given(text=iptables_rulesets(), asked=st.lists(PACKETS, min_size=12, max_size=12))
def test_iptables(bench: KernelBench, text: str, asked: list[tuple[str, str, int]]):
    packets = [bench.packet(*each) for each in asked]
    tried = bench.attempt(packets, iptables=text)
    hold_against(packets, parse_iptables(text), parse_iptables(tried.iptables), tried.seen)


@LESS
@given(text=nft_rulesets(), asked=st.lists(PACKETS, min_size=12, max_size=12))
def test_nftables(bench: KernelBench, text: str, asked: list[tuple[str, str, int]]):
    packets = [bench.packet(*each) for each in asked]
    tried = bench.attempt(packets, nft=text)
    hold_against(packets, parse_nft(text), parse_nft(tried.nft), tried.seen)
