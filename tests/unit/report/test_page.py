"""The page as a file: what it holds, how much, and that no text of a run becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.findings import Check
from hoplab.report.json_report import to_document
from hoplab.report.page.document import BUDGET, page_document, trimmed
from hoplab.report.page.writing import embedded, page
from hoplab.report.run import RunReport
from hoplab.report.spread import spreads
from tests.unit.report.runs import EXPLAIN, HOSTILE, failed_run, good_run, hostile_run

ENDINGS = ("</script>", "<!--", "<script", "]]>", "\u2028", "{{script}}", "&lt;")


def made(run: RunReport) -> str:
    return page("run", run.scenario, [page_document(run, to_document(run, EXPLAIN))]).decode()


class Elements(HTMLParser):
    """Counts elements as a browser would, and keeps the data element's text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.texts: dict[str, str] = {}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._in = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._in] = self.texts.get(self._in, "") + data

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["data"])
        return found


def test_it_holds_the_run_and_needs_nothing_else() -> None:
    text = made(good_run())
    [run] = Elements(text).data()["runs"]
    assert run["scenario"] == "external-lb"
    assert [hop["node"] for hop in run["flows"][0]["forward"]] == ["client", "lb", "node1", "node2", "pod/d"]
    # Addresses that begin with a scheme are namespaces' names; nothing is loaded by them.
    assert set(re.findall(r"""["'(]((?:https?:)?//[^"')\s]+)""", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|<link|<img|<iframe| src=", text)


def test_the_policy_forbids_everything_but_its_own_style_and_script() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', made(good_run()))
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


def test_every_packet_has_its_hops_and_a_rule_stands_there_once() -> None:
    [run] = Elements(made(good_run())).data()["runs"]
    flow = run["flows"][0]
    assert [one["same"] for one in flow["passages"] if "same" in one] == ["forward", "reply"]
    assert all(one["hops"] for one in flow["passages"] if "same" not in one)
    texts = [json.dumps(rule) for rule in run["rules"]]
    assert len(texts) == len(set(texts))
    dnat = [run["rules"][number] for number in flow["forward"][2]["rules"] if run["rules"][number]["does"] == "DNAT"]
    assert [rule["object"] for rule in dnat] == ["endpoint d of default/service-b"]


def test_a_run_that_was_read_from_its_json_has_the_hops_of_the_first_packet_and_its_answer() -> None:
    document = json.loads(json.dumps(to_document(good_run(), EXPLAIN)))
    flow = trimmed(document)["flows"][0]
    assert [one["same"] for one in flow["passages"] if "same" in one] == ["forward", "reply"]
    assert not any("hops" in one for one in flow["passages"])


def test_hundreds_of_flows_find_no_room_and_the_page_says_so() -> None:
    good, failed = good_run(), failed_run()
    many = replace(good, flows=(*[replace(good.flows[0], name=f"flow {n}") for n in range(300)], *failed.flows))
    text = made(many)
    assert len(text) < 400_000
    [run] = Elements(text).data()["runs"]
    assert run["flows_left_out"] == 301 - len(run["flows"]) > 0
    assert sum(len(json.dumps(flow)) for flow in run["flows"]) <= BUDGET
    # What went wrong is never what is left out, and each way is there once at least.
    assert {flow["outcome"] for flow in run["flows"]} == {"accepted", "dropped"}
    assert [flow["number"] for flow in run["flows"]] == sorted(flow["number"] for flow in run["flows"])


def test_however_much_its_checks_say_it_stays_small_and_shows_what_failed_first() -> None:
    long = "x" * 5_000
    checks = tuple(Check(f"{n} {long}", n % 3 > 0, long, long, (long,) * 50) for n in range(300))
    run = replace(good_run(), passed=False, checks=checks, problems=(long,) * 500)
    text = made(run)
    assert len(text) < 400_000
    [told] = Elements(text).data()["runs"]
    assert (told["checks_made"], told["checks_held"]) == (300, 200)
    shown = [check["passed"] for check in told["checks"]]
    assert 0 < len(shown) < 300
    assert shown.count(False) > shown.count(True)


def test_one_exchange_of_very_many_packets_is_told_by_its_beginning() -> None:
    run = good_run()
    flow = replace(run.flows[0], passages=run.flows[0].passages * 300)
    text = made(replace(run, flows=(flow,)))
    assert len(text) < 400_000
    [told] = Elements(text).data()["runs"]
    [only] = told["flows"]
    assert len(only["forward"]) == 5
    assert 0 < len(only["passages"]) < len(flow.passages)


def test_hundreds_of_checks_keep_the_failed_ones() -> None:
    failed = failed_run()
    checks = (*[replace(failed.checks[0], name=f"check {n}") for n in range(1000)], failed.checks[1])
    [run] = Elements(made(replace(failed, checks=checks))).data()["runs"]
    assert (run["checks_made"], run["checks_held"]) == (1001, 1000)
    assert run["checks"][-1]["name"] == "DNAT to pod d"


def test_hostile_text_is_data() -> None:
    plain, hostile = Elements(made(failed_run())), Elements(made(hostile_run()))
    assert hostile.elements == plain.elements
    assert hostile.data()["runs"][0]["scenario"] == HOSTILE
    assert "\x1b" not in made(hostile_run())


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_ends_the_data_element(ending: str) -> None:
    run = replace(failed_run(), scenario=f"a{ending}b", problems=(ending,))
    told = Elements(made(run))
    assert told.elements == Elements(made(failed_run())).elements
    assert told.data()["runs"][0]["problems"] == [ending]
    assert told.data()["runs"][0]["scenario"] == f"a{ending}b"


@given(st.text())
def test_any_text_comes_back_from_the_data_element(text: str) -> None:
    told = embedded({"text": text})
    assert told.isascii()
    assert not set("<>&") & set(told)
    assert json.loads(told) == {"text": text}


class TestSpread:
    def test_equal_flows_are_counted_by_entry_and_answerer(self) -> None:
        first, second = good_run().flows
        [spread] = spreads([first, first, second, *failed_run().flows], {"node1", "node2"})
        assert (spread.title, spread.flows) == ("client to 198.51.100.10:80, tcp", 4)
        assert spread.entered == {"node1": 4}
        assert spread.answered == {"": 1, "pod/d": 3}
        assert spread.outcomes == {"accepted": 3, "dropped": 1}

    def test_a_few_flows_spread_over_nothing(self) -> None:
        assert spreads(good_run().flows, {"node1"}) == ()
