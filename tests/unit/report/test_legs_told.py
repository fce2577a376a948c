"""Two connections told as one story: in the terminal, as JSON, and in the capture's comments."""

from __future__ import annotations

import json

from hoplab.hops.flow import flows
from hoplab.hops.leg_checks import expect_legs
from hoplab.report.annotate import frame_comments
from hoplab.report.json_report import to_json
from hoplab.report.run import RunReport
from hoplab.report.text import story_text
from tests.unit.hops.imaginary import SWITCHES, Imaginary
from tests.unit.hops.test_legs import THE_LEGS, TOKEN, key, proxied, request


def proxied_run() -> tuple[RunReport, Imaginary]:
    lab = Imaginary()
    told = request(TOKEN, "X-Forwarded-For: 203.0.113.10")
    proxied(lab, passed_on=b"PROXY TCP4 203.0.113.10 198.51.100.10 40000 80\r\n" + told)
    proxied(lab, asked=request(b"probe-second"), sport=40001, isn=90_000)
    found = flows(lab.evidence, [key(), key(40001, 90_000, b"probe-second")], switches=SWITCHES)
    check = expect_legs(found[0], *THE_LEGS)
    return RunReport("proxied", check.passed, 7, checks=(check,), flows=found), lab


def test_in_the_terminal_a_leg_follows_with_what_joins_it() -> None:
    run, _lab = proxied_run()
    text = story_text(run, verbosity=0)
    there, _, leg = text.partition("  leg 2  lb goes on in a connection of its own  accepted\n")
    assert "lb  takes in by eth0" in there
    first = leg.partition("Flow 2")[0]
    assert "its first bytes are a PROXY protocol version 1: 203.0.113.10:40000" in " ".join(first.split())
    assert "    X-Forwarded-For: 203.0.113.10\n" in first
    assert "destination  10.240.0.11:32261 → 10.1.2.3:80" in first
    assert "the same way as flow 1" in leg


def test_as_json_it_has_a_flows_fields_and_its_own() -> None:
    run, _lab = proxied_run()
    first, second = json.loads(to_json(run))["flows"]
    [leg] = first["legs"]
    assert {"name", "outcome", "protocol", "forward", "reply", "conntrack"} <= set(leg)
    assert (leg["leg"], leg["carried"], leg["reused"]) == (2, True, False)
    assert leg["proxy_header"] == "PROXY protocol version 1: 203.0.113.10:40000 -> 198.51.100.10:80"
    assert leg["forwarded"] == ["X-Forwarded-For: 203.0.113.10"]
    assert leg["forward"][1]["rewrite"] == ["DNAT", "SNAT"]
    assert [hop["node"] for hop in first["forward"]] == ["client", "lb"]
    assert second["legs"][0]["proxy_header"] == ""


def test_in_the_capture_every_frame_of_a_leg_says_so() -> None:
    run, lab = proxied_run()
    comments = frame_comments(run.flows, lab.evidence.frames)
    for hop in run.flows[0].legs[0].flow.forward:
        for frame in hop.frames:
            assert any(each.startswith("flow 1, leg 2: SYN, hop ") for each in comments[frame])
