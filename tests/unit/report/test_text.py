"""The story as people read it in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from hoplab.hops.story import RuleHit
from hoplab.report.annotate import decides
from hoplab.report.run import RunReport
from hoplab.report.spread import Spread
from hoplab.report.text import EVIDENCE, Verbosity, print_story, story_text
from hoplab.report.visible import visible
from tests.unit.report.runs import EXPLAIN, failed_run, good_run, hostile_run

VERBOSITIES: tuple[Verbosity, ...] = (-1, 0, 1)


def printed(run: RunReport, verbosity: Verbosity = 0, **options: object) -> str:
    out = io.StringIO()
    print_story(run, Console(file=out, width=80, **options), verbosity=verbosity, explain=EXPLAIN)  # type: ignore[arg-type]
    return out.getvalue()


THERE = """\
  there
    client  sends by eth0  TTL 64
        203.0.113.10:40000 → 198.51.100.10:80
    lb  eth0 → eth1  TTL 64 → 63  +3 µs
        destination  198.51.100.10:80 → 10.240.0.11:32261
    node1  eth0 → eth0  TTL 63 → 62  +5 µs
        destination  10.240.0.11:32261 → 10.1.2.3:80
        source       203.0.113.10:40000 → 10.240.0.11:51000
          DNAT by nat KUBE-SEP-D: endpoint d of default/service-b
          masquerade by nat KUBE-POSTROUTING: kubernetes
    node2  eth0 → vethd  TTL 62 → 61  +12 µs
    pod/d  takes in by eth0  TTL 61  +4 µs
        10.240.0.11:51000 → 10.1.2.3:80
  back
    pod/d  sends by eth0  TTL 64
        10.1.2.3:80 → 10.240.0.11:51000
"""


def test_hop_by_hop_with_what_changed_and_which_object_did_it() -> None:
    assert THERE in printed(good_run())


def test_flows_that_went_the_same_way_are_told_once() -> None:
    assert "Flow 2  second  tcp  accepted\n  the same way as flow 1\n" in printed(good_run())
    assert "the same way" not in printed(good_run(), 1)


def test_a_tunnel_is_told_at_both_of_its_ends() -> None:
    assert printed(good_run(overlay=True)).count("tunnel       10.240.0.11:50123 → 10.240.0.12:8472 VNI 1") == 2


def test_verbose_adds_every_rule_with_its_hook_and_verdict_and_the_answer() -> None:
    told = printed(good_run(), 1)
    assert "prerouting  ip nat PREROUTING: -j KUBE-SERVICES  → jump KUBE-SERVICES" in told
    assert "forward     ip filter FORWARD: policy accept" in told
    assert r"answer  HTTP/1.1 200 OK\r\n\r\npod d" in told


def test_quiet_is_one_line() -> None:
    assert printed(good_run(), -1) == "external-lb: passed (2 checks, 2 flows, 0.40 s)\n"
    told = " ".join(printed(failed_run(), -1).split())
    assert told.startswith("external-lb: FAILED (1 of 2 checks, 0.40 s) DNAT to pod d: ")


def test_a_failed_check_shows_expected_observed_and_evidence() -> None:
    told = printed(failed_run())
    assert "  ✓ outcome\n" in told
    assert "  ✗ DNAT to pod d\n      expected  node1 rewrites the destination to 10.1.2.3:80\n      observed  " in told
    assert "      evidence  node1 eth0 -> (ended here): frame" in told
    assert "drop by filter FORWARD policy" in told


def test_long_evidence_is_cut_short_but_for_verbose() -> None:
    run = failed_run()
    lines = tuple(f"line {number}." for number in range(EVIDENCE + 3))
    run = replace(run, checks=tuple(replace(each, evidence=lines) for each in run.checks))
    told = printed(run)
    assert f"line {EVIDENCE - 1}." in told
    assert f"line {EVIDENCE}." not in told
    assert "evidence  ... and 3 more lines with -v\n" in told
    assert f"line {EVIDENCE + 2}." in printed(run, 1)
    assert "with -v" not in printed(run, 1)


def test_where_equal_flows_went_is_counted() -> None:
    spread = Spread("client to 10.0.0.90:80, tcp", 5, {"": 1, "node1": 4}, {"": 1, "pod/d": 4}, {"accepted": 4})
    told = printed(replace(good_run(), spread=(spread,)))
    assert (
        "Where equal flows went\n  client to 10.0.0.90:80, tcp: 5 flows\n"
        "      came in by   no node 1, node1 4\n      answered by  nobody 1, pod/d 4\n" in told
    )
    assert "Where equal flows went" not in printed(good_run())


def test_losses_problems_times_and_artifacts_stand_below() -> None:
    told = printed(failed_run())
    assert "lost       4 trace events of node2 the socket's buffer was full" in told
    assert "problem    the capture was not written" in told
    told = printed(good_run())
    assert "times      build 0.10 s, converge 0.12 s, probe 0.05 s, total 0.40 s" in told
    assert "pcapng     captures/run.pcapng" in told


def test_the_verdict_stands_last() -> None:
    assert printed(good_run()).splitlines()[-1].startswith("external-lb: passed")


def test_no_check_is_no_success_to_look_at() -> None:
    assert "No check was made." in printed(replace(good_run(), checks=(), passed=False))


@pytest.mark.parametrize(
    "run", [good_run(overlay=True), failed_run(), hostile_run()], ids=["good", "failed", "hostile"]
)
@pytest.mark.parametrize("width", [80, 60])
def test_no_line_is_wider_than_the_terminal(run: RunReport, width: int) -> None:
    told = story_text(run, explain=EXPLAIN, width=width)
    assert max(cell_len(line) for line in told.splitlines()) <= width
    assert not re.search(r" $", told, re.MULTILINE)


def test_colour_only_on_a_terminal() -> None:
    assert "\x1b" not in printed(good_run())
    assert "\x1b[" in printed(good_run(), force_terminal=True, color_system="standard")


def test_what_is_hostile_appears_as_text() -> None:
    for verbosity in VERBOSITIES:
        told = printed(hostile_run(), verbosity)
        assert not set(told) & {"\x1b", "\x00", "\u202e", "\r"}
        assert r"\x1b[31mred\x1b[0m" in told
    assert "[bold]x[/bold]" in printed(hostile_run())


def test_a_terminal_with_ascii_only_gets_ascii_only() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_story(good_run(), Console(file=out, width=80))
    out.flush()
    assert b"    lb  eth0 > eth1  TTL 64 > 63  +3 us\n" in raw.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grün → ✓", "grün → ✓"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J\x07\x9b", r"\x1b[2J\x07\x9b"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\u2028\ufeff", r"\u2028\ufeff"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_very_long_text_loses_its_middle() -> None:
    shown = visible("a" * 500 + "b" * 500, 100)
    assert len(shown) <= 100
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")


@pytest.mark.parametrize(
    ("rule", "verdict", "what"),
    [
        ("-p tcp -j DNAT --to-destination 10.1.2.3:80", "accept", "DNAT"),
        ("dnat to numgen inc mod 2 map { 0 : 10.240.0.11 }", "accept", "DNAT"),
        ("-j SNAT --to-source 1.2.3.4", "accept", "SNAT"),
        ("-j MASQUERADE --random-fully", "accept", "masquerade"),
        ("-j REJECT --reject-with icmp-port-unreachable", "drop", "reject"),
        ("-j DROP", "drop", "drop"),
        ("policy", "drop", "drop"),
        ("policy", "accept", ""),
        ("-j KUBE-MARK-MASQ", "jump KUBE-MARK-MASQ", ""),
        ('-m comment --comment "DNAT and drop" -j ACCEPT', "accept", ""),
        ("-j MARK --or-mark 0x4000", "continue", ""),
    ],
)
def test_which_rules_decide(rule: str, verdict: str, what: str) -> None:
    assert decides(RuleHit("nat", "X", rule, verdict)) == what
