"""`lab.py diff` as a command: exit codes, JSON, page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hoplab.cli.main import run
from hoplab.report.json_report import to_json
from tests.unit.report.runs import failed_run, good_run, hostile_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, report in (("good", good_run()), ("failed", failed_run()), ("hostile", hostile_run())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(to_json(report))
    return tmp_path


def test_same_is_0_and_different_is_1(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(runs / "good"), str(runs / "good")]) == 0
    assert "Both runs saw the same." in capsys.readouterr().out
    assert run(["diff", str(runs / "good"), str(runs / "failed")]) == 1
    assert "First divergence" in capsys.readouterr().out


def test_what_is_no_run_is_2_and_one_message(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(runs / "good"), str(runs / "nobody")]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    (runs / "good" / "run.json").write_text("{")
    assert run(["diff", str(runs / "good"), str(runs / "failed")]) == 2
    assert "is no JSON" in capsys.readouterr().err


def test_json_is_one_document(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "--json", str(runs / "good"), str(runs / "failed")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["version"], document["same"]) == (1, False)
    assert document["left"]["scenario"] == "external-lb"
    assert set(document["differences"][0]) >= {"where", "what", "left", "right", "left_flow", "right_flow", "way"}
    assert document["ignored"]


def test_a_page_of_both(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = runs / "diff.html"
    assert run(["diff", str(runs / "good"), str(runs / "hostile"), "--page", str(page)]) == 1
    text = page.read_text()
    assert text.count("<script") == 2
    assert len(text) < 400_000
    assert not set(capsys.readouterr().out + text) & {"\x1b", "\u202e"}


def test_a_page_that_cannot_be_written_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(runs / "good"), str(runs / "good"), "--page", "/proc/nowhere/diff.html"]) == 0
    told = capsys.readouterr()
    assert "Both runs saw the same." in told.out
    assert "/proc/nowhere/diff.html was not written" in told.err
