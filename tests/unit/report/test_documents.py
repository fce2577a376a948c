"""JSON and JUnit: what other programs read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.findings import Check
from hoplab.report.json_report import to_document, to_json
from hoplab.report.junit import to_junit
from hoplab.report.run import RunReport, all_hold
from tests.unit.report.runs import HOSTILE, failed_run, good_run, hostile_run

TUPLE = {"src", "sport", "dst", "dport"}


class TestJson:
    def test_every_promised_field_is_there(self) -> None:
        document = json.loads(to_json(good_run()))
        promised = {"version", "scenario", "passed", "seed", "timings_s", "checks", "flows", "artifacts"}
        assert promised <= set(document)
        assert (document["version"], document["scenario"], document["passed"]) == (1, "external-lb", True)
        assert {"name", "passed", "expected", "observed", "evidence"} <= set(document["checks"][0])
        flow = document["flows"][0]
        assert {"name", "outcome", "protocol", "forward", "reply", "conntrack"} <= set(flow)
        for hop in (*flow["forward"], *flow["reply"]):
            asked = {
                "node",
                "in",
                "out",
                "before",
                "after",
                "ttl_in",
                "ttl_out",
                "rewrite",
                "rules",
                "frames",
                "time_ns",
            }
            assert asked <= set(hop)
            assert set(hop["before"]) == set(hop["after"]) == TUPLE
        assert {"node", "original", "reply"} <= set(flow["conntrack"][0])
        assert set(flow["conntrack"][0]["original"]) == TUPLE

    def test_a_hop_says_what_was_seen(self) -> None:
        node1 = to_document(good_run())["flows"][0]["forward"][2]
        assert node1["node"] == "node1"
        assert (node1["in"], node1["out"], node1["ttl_in"], node1["ttl_out"]) == ("eth0", "eth0", 63, 62)
        assert node1["before"] == {"src": "203.0.113.10", "sport": 40000, "dst": "10.240.0.11", "dport": 32261}
        assert node1["after"] == {"src": "10.240.0.11", "sport": 51000, "dst": "10.1.2.3", "dport": 80}
        assert node1["rewrite"] == ["DNAT", "SNAT"]
        assert node1["frames"] == [8, 9]
        rule = {k: node1["rules"][2][k] for k in ("table", "chain", "rule", "verdict")}
        assert rule == {
            "table": "nat",
            "chain": "KUBE-SEP-D",
            "rule": '-m comment --comment "default/service-b" -j DNAT --to 10.1.2.3:80',
            "verdict": "accept",
        }

    def test_reasons_stand_with_the_flow_and_with_the_check_that_failed_for_it(self) -> None:
        document = to_document(hostile_run())
        for reason in (document["flows"][0]["reasons"][0], document["checks"][0]["reasons"][0]):
            assert (reason["cause"], reason["node"], reason["next_step"]) == ("no-route", HOSTILE, HOSTILE)
            assert reason["evidence"] == [HOSTILE]
        assert to_document(good_run())["flows"][0]["reasons"] == []

    def test_where_nothing_came_in_or_went_out_is_null(self) -> None:
        flow = to_document(good_run())["flows"][0]
        assert (flow["forward"][0]["in"], flow["forward"][0]["ttl_in"]) == (None, None)
        assert (flow["forward"][-1]["out"], flow["forward"][-1]["ttl_out"]) == (None, None)

    def test_losses_and_problems_are_told(self) -> None:
        document = to_document(failed_run())
        assert document["losses"][0]["lost"] == 4
        assert document["problems"] == ["the capture was not written"]
        assert document["flows"][0]["reason"] == "dropped in node1 by ip filter FORWARD: policy drop"

    def test_hostile_text_is_kept_exactly_and_harmless_on_a_terminal(self) -> None:
        text = to_json(hostile_run())
        assert text.isascii()
        assert "\x1b" not in text
        assert json.loads(text)["scenario"] == HOSTILE


class TestJUnit:
    def test_a_suite_is_a_scenario_and_a_case_is_a_check(self) -> None:
        root = ET.fromstring(to_junit([good_run(), failed_run()]))
        assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "4", "1", "0")
        good, failed = root.findall("testsuite")
        assert (good.get("name"), good.get("tests"), good.get("failures"), good.get("time")) == (
            "external-lb",
            "2",
            "0",
            "0.400",
        )
        assert [case.get("name") for case in failed.iter("testcase")] == ["outcome", "DNAT to pod d"]

    def test_a_failure_tells_expected_observed_and_evidence(self) -> None:
        root = ET.fromstring(to_junit([failed_run()]))
        [failure] = root.iter("failure")
        assert failure.text is not None
        assert failure.text.splitlines()[0] == "expected: node1 rewrites the destination to 10.1.2.3:80"
        assert "observed: " in failure.text
        assert "evidence: node1 eth0 -> (ended here)" in failure.text
        told = root.find("testsuite/system-out")
        assert told is not None
        assert told.text is not None
        assert "node2: 4 trace events lost" in told.text

    def test_a_run_that_failed_without_a_failed_check_is_an_error(self) -> None:
        report = replace(good_run(), passed=False, checks=(), problems=("the run came to no verdict; exit code 2",))
        root = ET.fromstring(to_junit([report]))
        assert (root.get("tests"), root.get("errors")) == ("1", "1")
        [error] = root.iter("error")
        assert "exit code 2" in (error.text or "")

    def test_cases_of_one_suite_have_different_names(self) -> None:
        checks = tuple(Check("outcome", True, "", "") for _ in range(3))
        root = ET.fromstring(to_junit([replace(good_run(), checks=checks)]))
        assert [case.get("name") for case in root.iter("testcase")] == ["outcome", "outcome (2)", "outcome (3)"]

    def test_what_viewers_look_for_is_there(self) -> None:
        root = ET.fromstring(to_junit([replace(failed_run(), started_at=1_700_000_000.5)]))
        suite = root.find("testsuite")
        assert suite is not None
        assert (suite.get("timestamp"), suite.get("skipped"), root.get("time")) == ("2023-11-14T22:13:20", "0", "0.400")
        assert all(case.get("time") == "0.000" for case in root.iter("testcase"))
        assert [failure.get("type") for failure in root.iter("failure")] == ["check"]

    def test_hostile_text_is_well_formed_xml(self) -> None:
        root = ET.fromstring(to_junit([hostile_run()]))
        [case] = root.iter("testcase")
        assert r"\x1b[31mred" in (case.get("name") or "")
        assert "<script>" in (case.get("name") or "")

    @given(st.text(), st.text())
    def test_any_text_is_well_formed_xml(self, name: str, observed: str) -> None:
        run = RunReport(name, False, 0, {}, (Check(name, False, name, observed, (observed,)),))
        ET.fromstring(to_junit([run]))


def test_the_verdict_needs_a_check() -> None:
    assert not all_hold(())
    assert all_hold((Check("a", True, "", ""),))
    assert not all_hold((Check("a", True, "", ""), Check("b", False, "", "")))
