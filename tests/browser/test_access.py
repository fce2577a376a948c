"""Nobody is kept out: axe finds nothing on any page, in either theme, on projector or phone; hostile text is text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hoplab.report.json_report import to_document
from hoplab.report.page.document import page_document
from hoplab.report.page.writing import page
from tests.browser.conftest import PHONE, WIDE, lab
from tests.unit.report.runs import HOSTILE, hostile_run

pytestmark = [pytest.mark.lab, pytest.mark.browser]
LONG = "x" * 3000
RIGHT_TO_LEFT = "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627"


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = hostile_run()
    flow = replace(run.flows[0], reason=HOSTILE, response=HOSTILE, name=f"{HOSTILE}{RIGHT_TO_LEFT}")
    long = replace(run.checks[0], name=LONG, observed=RIGHT_TO_LEFT)
    run = replace(run, flows=(flow, replace(flow, name=LONG)), checks=(*run.checks, long), problems=(LONG, HOSTILE))
    path = tmp_path_factory.mktemp("hostile") / "run.html"
    path.write_bytes(page("run", run.scenario, [page_document(run, to_document(run))]))
    return path


@pytest.mark.parametrize("which", ["good", "broken", "index", "hostile", "diff"])
def test_axe_finds_nothing(visit: Any, captures: Path, hostile: Path, beside: Path, which: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    pages = {"good": "external-lb/run.html", "broken": "broken/run.html", "index": "index.html", "diff": "diff.html"}
    path = hostile if which == "hostile" else captures / pages[which]
    with visit(path, reduced_motion="reduce") as tab:
        if which != "index":
            tab.keyboard.press("ArrowRight")
        if which in ("good", "hostile"):
            tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        looks = [(WIDE, "light"), (PHONE, "dark")]
        if which == "good":
            tab.locator("#beside").select_option(index=2)
            looks += [(WIDE, "dark"), (PHONE, "light")]
        for size, theme in looks:
            tab.set_viewport_size(size)
            tab.emulate_media(color_scheme=theme)
            found = Axe().run(tab)
            assert found.violations_count == 0, found.generate_report()
            # Nothing sticks out to the right: a phone scrolls down only.
            assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_hostile_text_is_read_not_obeyed(visit: Any, hostile: Path) -> None:
    with visit(hostile) as tab:
        text = tab.locator("body").inner_text()
        assert r"\x1b[31mred\x1b[0m [bold]x[/bold] <script>alert(1)</script> \u202etxt\n\x00 ]]> & " in text
        assert not set(text) & {"\x1b", "\u202e", "\x00", "\u2066"}
        assert RIGHT_TO_LEFT in text
        # One element of each, as in every page of a run: none was made by a run's text.
        assert tab.evaluate("document.scripts.length") == 2
        assert (
            tab.title()
            == r"\x1b[31mred\x1b[0m [bold]x[/bold] <script>alert(1)</script> \u202etxt\n\x00 ]]> & " + "\"' · hoplab"
        )


def test_without_a_mouse_everything_is_reached(visit: Any, broken: Path) -> None:
    with visit(broken) as tab:
        reached = []
        for _press in range(60):
            tab.keyboard.press("Tab")
            reached.append(
                tab.evaluate(
                    "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
                )
            )
        assert {"skip", "theme", "evidence", "whole", "first", "play", "next", "last", "slider"} <= set(reached)
        tab.locator("#play").focus()
        tab.keyboard.press("Tab")
        outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_landmarks(visit: Any, good: Path) -> None:
    with visit(good) as tab:
        roles = tab.locator("body").aria_snapshot()
        for landmark in ("banner", "main", "contentinfo", 'navigation "Files"', 'region "The packet\'s way"'):
            assert landmark in roles
        levels = [int(one) for one in re.findall(r"\[level=(\d)\]", roles)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_without_scripts_the_page_says_where_the_story_is(chromium: Any, good: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(good.as_uri())
    assert "story.txt beside it tells the same" in tab.locator("main").inner_text()
    context.close()


HOSTILE_CHECK = r"""
flows:
- name: "\e[31m<script>alert(1)</script>\n\u202Eevil ]]>&"
  from: client
  to: node1:9/tcp
  expect: {outcome: rejected}
"""


def test_hostile_text_is_text_wherever_a_run_is_told(visit: Any, tmp_path: Path) -> None:
    """One real run of a check file, told in every way that there is."""
    (tmp_path / "hostile.yaml").write_text(HOSTILE_CHECK)
    done = lab("check", tmp_path / "hostile.yaml", "-v", "--captures", tmp_path, "--junit", tmp_path / "junit.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "hostile"
    escaped = r"\x1b[31m<script>alert(1)</script>\n\u202eevil ]]>&"
    junit = ET.fromstring((tmp_path / "junit.xml").read_bytes())
    told = {
        "terminal": done.stdout,
        "story": (folder / "story.txt").read_text(),
        "JUnit": "".join(case.get("name", "") for case in junit.iter("testcase")),
    }
    for where, text in told.items():
        assert escaped in " ".join(text.split()), where
        assert not set(text) & {"\x1b", "\u202e"}, where
    document = (folder / "run.json").read_text()
    assert document.isascii()
    assert "\x1b[31m<script>alert(1)</script>\n\u202eevil ]]>&" in json.loads(document)["flows"][0]["name"]
    with visit(folder / "run.html") as tab:
        assert escaped in tab.locator(".lane-title").inner_text()
        assert tab.evaluate("document.scripts.length") == 2
