"""The page of a run, as somebody with a browser uses it: by keyboard, by mouse, by ear."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hoplab.report.json_report import to_document
from hoplab.report.page.document import page_document
from hoplab.report.page.writing import page
from hoplab.report.run import RunReport
from tests.unit.report.runs import good_run

pytestmark = [pytest.mark.lab, pytest.mark.browser]


def where(tab: Any) -> str:
    told: str = tab.locator("#where").inner_text()
    return told


def headers(tab: Any) -> dict[str, list[str]]:
    """Header -> its cells, in the hop that is shown."""
    rows = tab.locator(".hop table.headers tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


def test_by_keyboard_to_the_last_hop_and_back(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        assert where(tab) == "step 1 of 10"
        tab.keyboard.press("End")
        assert where(tab) == "step 10 of 10"
        assert tab.locator(".hop .node").inner_text() == "client"
        assert "back SYN-ACK" in tab.locator(".hop .way").inner_text()
        nodes = []
        for _step in range(9):
            tab.keyboard.press("ArrowLeft")
            nodes.append(tab.locator(".hop .node").inner_text())
        assert nodes == ["lb", "node1", "node2", "pod/d", "pod/d", "node2", "node1", "lb", "client"]
        assert where(tab) == "step 1 of 10"
        tab.keyboard.press("ArrowLeft")
        assert where(tab) == "step 1 of 10"
        tab.keyboard.press("ArrowRight")
        assert where(tab) == "step 2 of 10"
        tab.keyboard.press("Home")
        assert where(tab) == "step 1 of 10"


def test_the_rewrite_and_who_did_it(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowRight")
        shown = headers(tab)
        assert re.fullmatch(r"10\.240\.0\.11:\d+", shown["Destination"][0])
        assert re.fullmatch(r"10\.1\.2\.\d+:80", shown["Destination"][2])
        assert shown["Source"][0].startswith("203.0.113.10:")
        assert shown["Source"][2].startswith("10.240.0.11:")
        assert [shown["TTL"][0], shown["TTL"][2]] == ["63", "62"]
        assert tab.locator(".hop tr.rewritten th").all_inner_texts() == ["Source", "Destination"]
        told = tab.locator(".decisions").inner_text()
        assert re.search(r"DNAT by nat KUBE-SEP-\w+: endpoint \S+ \(pod default/d\) of default/service-b", told)
        assert "masquerade by nat KUBE-POSTROUTING" in told
        assert tab.locator(".rules li.decides").count() == 2
        assert tab.locator(".marks text.rewrote").all_text_contents()[-1:] == ["DNAT+SNAT"]
        # On the way back no rule decides.
        tab.keyboard.press("End")
        tab.keyboard.press("ArrowLeft")
        assert "by connection tracking" in tab.locator(".by-conntrack").inner_text()


def test_each_step_is_told_to_those_who_listen(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        live = tab.locator("#live")
        assert live.get_attribute("aria-live") == "polite"
        tab.keyboard.press("ArrowRight")
        assert live.inner_text().startswith(
            "there, SYN: lb, in by eth0, out by eth1; destination 198.51.100.11:80 becomes"
        )
        assert tab.locator("[aria-current=step]").inner_text().startswith("lb")
        assert tab.locator("#slider").get_attribute("aria-valuetext") == "step 2 of 10"


def test_play_and_pause(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        tab.clock.install()
        tab.reload()
        tab.keyboard.press("Space")
        assert tab.locator("#play").get_attribute("aria-label") == "Pause"
        tab.clock.run_for(3_100)
        assert where(tab) == "step 4 of 10"
        tab.keyboard.press("Space")
        tab.clock.run_for(6_000)
        assert where(tab) == "step 4 of 10"
        tab.locator("#play").click()
        tab.clock.run_for(30_000)
        assert where(tab) == "step 10 of 10"
        assert tab.locator("#play").get_attribute("aria-label") == "Play"


def test_buttons_slider_and_hops(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        tab.locator("#last").click()
        assert where(tab) == "step 10 of 10"
        tab.locator("#back").click()
        tab.locator("#back").click()
        assert where(tab) == "step 8 of 10"
        tab.locator("#slider").fill("3")
        assert where(tab) == "step 4 of 10"
        tab.locator(".hops").first.locator("button").nth(4).click()
        assert (where(tab), tab.locator(".hop .node").inner_text()) == ("step 5 of 10", "pod/d")


def test_every_packet_of_the_exchange(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        tab.locator("#whole").check()
        assert where(tab) == "step 1 of 50"
        labels = tab.locator(".packets .label").all_inner_texts()
        sent = ["→ SYN", "← SYN-ACK", "→ ACK", "→ DATA", "← ACK", "← DATA", "← FIN", "→ ACK", "→ FIN", "← ACK"]
        assert labels == sent
        tab.keyboard.press("End")
        assert tab.locator(".hop .way").inner_text() == "← back ACK"


def test_the_packet_moves_over_the_drawing_and_stands_still_where_asked(visit: Any, good: Path) -> None:
    def place(tab: Any) -> str:
        told: str = tab.locator(".packet").get_attribute("transform")
        return told

    with visit(good, reduced_motion="reduce") as tab:
        places = [place(tab)]
        for _step in range(4):
            tab.keyboard.press("ArrowRight")
            places.append(place(tab))
        assert len(set(places)) == 5
        assert tab.locator(".trail polyline").count() == 4
        assert tab.locator(".place.here .name").text_content() == "pod/d"
    with visit(good) as tab:
        tab.clock.install()
        tab.reload()
        tab.keyboard.press("ArrowRight")
        tab.clock.run_for(100)
        assert place(tab) not in places
        tab.clock.run_for(1_000)
        assert place(tab) == places[1]


def test_two_flows_beside_each_other(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        tab.locator("#beside").select_option(index=2)
        assert tab.locator(".lane").count() == 2
        assert where(tab) == "step 1 of 10"
        tab.keyboard.press("ArrowRight")
        assert "destination" in tab.locator(".apart").inner_text()
        tab.locator(".lane").first.locator(".hops button", has_text="node1").first.click()
        assert tab.locator(".lane").nth(1).locator(".hop").inner_text() == "This packet does not come by here."
        tab.locator("#beside").select_option("")
        assert tab.locator(".lane").count() == 1


def test_why_it_failed_stands_first_and_leads_to_the_hop(visit: Any, broken: Path) -> None:
    with visit(broken) as tab:
        text = tab.locator("main").inner_text()
        assert text.index("Why it failed") < text.index("The packet's way")
        assert "the client gets its answer" in tab.locator(".why").inner_text()
        assert "unanswered" in tab.locator(".lane-title").inner_text()
        evidence = tab.locator(".why button.evidence").last
        frame = re.search(r"frames? (\d+)", evidence.inner_text())
        assert frame is not None
        evidence.click()
        assert frame[1] in tab.locator(".hop .frames code").first.inner_text().split(", ")
        tab.keyboard.press("End")
        assert tab.locator(".marks text.lost").text_content() == "✗ not the answer"


def test_two_runs_begin_at_their_first_divergence(visit: Any, beside: Path) -> None:
    with visit(beside) as tab:
        assert tab.locator(".lane").count() == 2
        first = tab.locator(".divergences .first")
        assert "flow service-b through node1, there, node1" in first.inner_text()
        assert tab.locator(".hop .node").all_inner_texts() == ["node1", "node1"]
        assert "source: client → node1 | client" in tab.locator(".apart").inner_text()
        # Before it both are the same, for ports and frame numbers do not count.
        tab.keyboard.press("ArrowLeft")
        assert tab.locator(".apart").count() == 0
        tab.keyboard.press("End")
        first.locator("button").click()
        assert tab.locator(".hop .node").all_inner_texts() == ["node1", "node1"]


def test_flows_of_which_nothing_was_seen_and_runs_without_any(visit: Any, tmp_path: Path) -> None:
    run = good_run()
    unseen = replace(run.flows[0], name="unseen", outcome="unanswered", forward=(), reply=(), passages=(), conntrack=())
    for name, changed in (
        ("unseen", replace(run, flows=(unseen, *run.flows))),
        ("empty", RunReport("empty", False, 7)),
    ):
        path = tmp_path / f"{name}.html"
        path.write_bytes(page("run", name, [page_document(changed, to_document(changed))]))
    with visit(tmp_path / "unseen.html") as tab:
        assert tab.locator(".hop").inner_text() == "No packet of this flow was seen anywhere."
        tab.locator(".flows button").nth(1).click()
        assert where(tab) == "step 1 of 10"
    with visit(tmp_path / "empty.html") as tab:
        assert "This run tells no flow hop by hop." in tab.locator("#walk").inner_text()
        assert "No check was made, so nothing is proved" in tab.locator(".why").inner_text()


def test_the_spread_is_drawn_and_written(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        plots = tab.locator(".plot")
        assert plots.count() >= 2
        for plot in plots.all():
            numbers = [int(cell) for cell in plot.locator("tbody tr td:nth-of-type(1)").all_inner_texts()]
            bars = [float(bar.get_attribute("width")) for bar in plot.locator("svg.share rect").all()]
            assert len(numbers) == len(bars)
            assert max(bars) == pytest.approx(200)
            assert all(
                bar == pytest.approx(200 * number / max(numbers)) for bar, number in zip(bars, numbers, strict=True)
            )


def test_light_and_dark(visit: Any, good: Path) -> None:
    def paper(tab: Any) -> str:
        told: str = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return told

    with visit(good) as tab:
        light = paper(tab)
        tab.locator("#theme").click()
        dark = paper(tab)
        assert light != dark
        tab.reload()
        assert paper(tab) == dark
    with visit(good, theme="dark") as tab:
        assert paper(tab) == dark
        tab.locator("#theme").click()
        assert paper(tab) == light


def test_sixty_hops_are_smooth(visit: Any, good: Path) -> None:
    walk = """() => {
        const flow = data.runs[0].flows[0];
        const hops = Array.from({length: 12}, () => flow.forward).flat().map((hop) => ({...hop}));
        flow.packets = [{label: "SYN", reply: false, again: false, main: true, hops, count: hops.length, time: 0}];
        walk.chosen();
        const times = [];
        for (let at = 0; at < walk.rows.length; at++) {
            const began = performance.now();
            walk.go(at, true);
            document.body.getBoundingClientRect();
            times.push(performance.now() - began);
        }
        return [walk.rows.length, times.sort((a, b) => a - b)[30]];
    }"""
    with visit(good) as tab:
        steps, median = tab.evaluate(walk)
    assert steps == 60
    assert median < 25, f"a step takes {median:.1f} ms"
