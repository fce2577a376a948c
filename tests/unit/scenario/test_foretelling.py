"""What of a flow is held against what was foretold: where a packet came to, not what its receiver did with it."""

from __future__ import annotations

from typing import Any

import pytest

from hoplab.hops.evidence import Tuple
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.model.packet import Host, Interface
from hoplab.scenario.foretelling import Foreteller

NODE = Host((Interface("eth0", ("10.240.0.11/16",)),))
PASSED = RuleHit("filter", "KUBE-NODEPORTS", "...", "continue")
REJECT = RuleHit("filter", "KUBE-EXTERNAL-SERVICES", "-j REJECT", "drop")


def refused(to: str, *rules: RuleHit, at: str = "node1") -> Flow:
    asked = Tuple("203.0.113.10", 40000, to, 30080)
    hops = (
        Hop("client", None, "eth0", asked, asked, None, 64, frames=(1,)),
        Hop(at, "eth0", None, asked, asked, 64, None, (), rules, (2,)),
    )
    return Flow("a", "tcp", "rejected", hops, (), sender="client", reason="RST")


@pytest.mark.parametrize(
    ("flow", "seen_as"),
    [
        (refused("10.240.0.11", PASSED), "accepted"),
        (refused("10.240.0.11", PASSED, REJECT), "rejected"),
        (refused("10.240.0.11"), "rejected"),
        (refused("192.0.2.1", PASSED), "rejected"),
        (refused("10.1.1.4", at="pod/a"), "accepted"),
    ],
    ids=["a port of the node is closed", "a rule refuses it", "no trace", "no way on from there", "a pod's is closed"],
)
def test_a_receiver_that_refuses_has_received(flow: Flow, seen_as: str) -> None:
    cluster: Any = None
    foreteller = Foreteller(cluster, _hosts={"node1": NODE})
    try:
        assert foreteller._as_delivered(flow, {"node1"}).outcome == seen_as
    finally:
        foreteller.close()
