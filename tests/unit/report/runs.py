"""Runs to report on: a good one, and one in which everything that can be hostile is."""

from __future__ import annotations

from dataclasses import replace

from hoplab.hops.evidence import Evidence, Loss
from hoplab.hops.findings import Check
from hoplab.hops.flow import flows
from hoplab.hops.reason import Reason
from hoplab.hops.verdict import expect_dnat, expect_hops, expect_outcome
from hoplab.report.run import RunReport, all_hold, explain_by
from tests.unit.hops.imaginary import (
    POD_D,
    SWITCHES,
    SYN,
    Imaginary,
    Rule,
    Stop,
    Wire,
    exchange,
    probe,
    sent_by,
    way_there,
)

EXPLAIN = explain_by({"KUBE-SEP-D": "endpoint d of default/service-b"})
HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold] <script>alert(1)</script> \u202etxt\n\x00 ]]> & \"'"


def evidence(*, overlay: bool = False) -> Evidence:
    lab = Imaginary()
    exchange(lab, overlay=overlay)
    exchange(lab, sport=40001, isn=5_000_000, irs=99, port=51001, overlay=overlay)
    policy = Rule("filter", "FORWARD", "policy", "drop", base=True)
    lab.play(
        Wire(sent_by(40002), ip_id=99, flags=SYN, seq=3000),
        [*way_there()[:4], Stop("node1", ("eth0",), rules=(policy,))],
    )
    return lab.evidence


def good_run(*, overlay: bool = False) -> RunReport:
    keys = [probe(name="first"), probe(40001, 5_000_000, "second")]
    told = flows(evidence(overlay=overlay), keys, switches=SWITCHES)
    checks = (expect_hops(told[0], "client", "lb", "node1", "node2", "pod/d"), expect_dnat(told[0], "node1", POD_D, 80))
    timings = {"build": 0.1, "converge": 0.12, "probe": 0.05, "total": 0.4}
    artifacts = {"pcapng": "captures/run.pcapng", "story": "captures/run.txt"}
    return RunReport("external-lb", all_hold(checks), 7, timings, checks, told, artifacts)


def failed_run() -> RunReport:
    told = flows(evidence(), [probe(40002, 3000, "dropped one")], switches=SWITCHES)
    checks = (expect_outcome(told[0], "dropped"), expect_dnat(told[0], "node1", POD_D, 80, name="DNAT to pod d"))
    losses = (Loss("node2", "trace", 4, "the socket's buffer was full"),)
    return RunReport(
        "external-lb", False, 7, {"total": 0.4}, checks, told, {}, losses, ("the capture was not written",)
    )


def hostile_run() -> RunReport:
    reason = Reason("no-route", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 3, (HOSTILE,), HOSTILE, False, HOSTILE)
    told = tuple(
        replace(flow, reasons=(reason,)) for flow in flows(evidence(), [probe(40002, 3000, HOSTILE)], switches=SWITCHES)
    )
    check = Check(HOSTILE, False, HOSTILE, HOSTILE * 100, (HOSTILE,), (reason,))
    losses = (Loss(HOSTILE, "frames", 1, HOSTILE),)
    return RunReport(HOSTILE, False, 7, {"total": 0.1}, (check,), told, {"pcapng": HOSTILE}, losses, (HOSTILE,))
