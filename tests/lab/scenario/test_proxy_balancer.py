"""--balancer-mode proxy: HAProxy on the balancer, two connections in one story, and what breaks it."""

from __future__ import annotations

import json

import pytest

from hoplab.report.json_report import to_document
from tests.lab.scenario.labrun import run_scenario

pytestmark = [pytest.mark.lab, pytest.mark.needs("haproxy")]
SICK = "a node whose health check fails gets no new flow"


def failed(report):
    return [check.name for check in report.checks if not check.passed]


@pytest.mark.parametrize(
    "options",
    [{}, {"proxy_protocol": True, "balancer": "round-robin", "proxy_mode": "nftables", "fabric": "vxlan", "nodes": 3}],
    ids=["hash", "round robin, PROXY protocol, nftables, vxlan"],
)
def test_the_main_job_passes(options, tmp_path):
    report = run_scenario("external-lb", tmp_path, balancer_mode="proxy", **options)
    assert failed(report) == []
    names = [check.name for check in report.checks]
    assert "flows as foretold" in names
    assert ("a PROXY header tells node and pod who the client is" in names) == bool(options)
    flow = to_document(report)["flows"][0]
    [leg] = flow["legs"]
    assert [hop["node"] for hop in flow["forward"]] == ["client", "lb"]
    assert [hop["node"] for hop in leg["forward"]] == ["lb", "node1", "node2", "pod/d"]
    assert leg["forward"][1]["rewrite"] == ["DNAT", "SNAT"]
    assert leg["conntrack"]
    assert leg["proxy_header"].startswith("PROXY protocol version 2: 203.0.113.10:") == bool(options)
    [written] = json.loads((tmp_path / "external-lb" / "run.json").read_text())["flows"][0]["legs"]
    assert [hop["frames"] for hop in written["forward"]] == [hop["frames"] for hop in leg["forward"]]
    story = (tmp_path / "external-lb" / "story.txt").read_text()
    assert "leg 2  lb goes on in a connection of its own  accepted" in story


def blind(lab):
    lab.cluster.balancer.always_healthy = True


def without_node1(lab):
    lab.cluster.balancer.drop_candidate("node1")


@pytest.mark.parametrize(
    ("sabotage", "expected"),
    [
        (blind, {SICK}),
        (without_node1, {"the balancer picks node1", "3. node2 delivers the packet to pod d"}),
    ],
)
def test_a_sabotage_turns_the_right_check_red(sabotage, expected, tmp_path):
    report = run_scenario("external-lb", tmp_path, sabotage, balancer_mode="proxy")
    assert expected <= set(failed(report))
    for check in report.checks:
        assert check.observed
