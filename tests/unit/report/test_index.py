"""The list of runs: newest first, whatever lies in the folder, however many runs end at once."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hoplab.report.artifacts import write_artifact
from hoplab.report.json_report import to_document
from hoplab.report.page import index
from hoplab.report.page.index import INDEX, SUMMARY, summary, write_index
from tests.unit.report.runs import HOSTILE, failed_run, good_run, hostile_run


def leave(captures: Path, name: str, run: object = None, **changed: object) -> None:
    told = replace(run or good_run(), **changed)  # type: ignore[type-var]
    write_artifact(captures / name / SUMMARY, json.dumps(summary(to_document(told))).encode())  # type: ignore[arg-type]
    write_artifact(captures / name / "run.html", b"page")


def rows(captures: Path) -> list[str]:
    text = (captures / INDEX).read_text()
    return [html.unescape(re.sub(r"<[^>]+>", " ", row)) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", text)]


def test_newest_first_with_verdict_failure_and_links(tmp_path: Path) -> None:
    leave(
        tmp_path,
        "old",
        started_at=1_000_000.0,
        scenario="old",
        options={"topology": "cloud", "nodes": "3", "balancer": "hash", "fabric": "vxlan"},
    )
    leave(tmp_path, "new", failed_run(), started_at=2_000_000.0, scenario="new")
    write_index(tmp_path)
    new, old = rows(tmp_path)
    assert re.search(r"new .*✗ failed .*DNAT to pod d .*1 of 2 .*1970-01-24 03:33:20", new)
    assert re.search(r"old .*✓ passed .*2 of 2 .*cloud, 3 nodes +fabric\s+vxlan", old)
    assert "hash" not in old
    text = (tmp_path / INDEX).read_text()
    assert 'href="new/run.html"' in text
    assert "run.pcapng" not in text
    assert "2 runs, 1 passed, 1 failed" in text


BROKEN = {
    "empty": b"",
    "half": b'{"scenario": "x", "pas',
    "list": b"[]",
    "wrong": b'{"scenario": 5, "passed": true}',
    "deep": b"[" * 100_000,
    "huge": b" " * 200_000,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_told_and_the_others_stay(tmp_path: Path, content: bytes) -> None:
    leave(tmp_path, "good")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / SUMMARY).write_bytes(content)
    (tmp_path / "notes.txt").write_text("a file")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "away").symlink_to("/nonexistent")
    write_index(tmp_path)
    assert len(rows(tmp_path)) == 1
    told = (tmp_path / INDEX).read_text()
    assert "<li>broken <span>(" in told
    assert "<li>nothing <span>(no summary)" in told


def test_no_run_at_all(tmp_path: Path) -> None:
    write_index(tmp_path)
    assert "No run has left anything here yet." in (tmp_path / INDEX).read_text()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    leave(tmp_path, "<img src=x onerror=alert(1)>%2e\u202e", hostile_run())
    write_index(tmp_path)
    text = (tmp_path / INDEX).read_text()
    assert "<img" not in text
    assert "<script>alert" not in text
    assert not set(text) & {"\x1b", "\u202e", "\x00"}
    assert html.escape("<script>alert(1)</script>") in text
    assert HOSTILE not in text


def test_a_run_that_ends_while_the_index_is_written_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "first")
    real, came = index.write_artifact, []

    def another_run_ends_first(path: Path, data: bytes) -> None:
        if not came:
            came.append(True)
            leave(tmp_path, "second")
        real(path, data)

    monkeypatch.setattr(index, "write_artifact", another_run_ends_first)
    write_index(tmp_path)
    assert len(rows(tmp_path)) == 2


WRITER = """
import sys, pathlib
from tests.unit.report.test_index import leave
from hoplab.report.page.index import write_index
captures = pathlib.Path(sys.argv[1])
for number in range(6):
    leave(captures, f"{sys.argv[2]}-{number}")
    write_index(captures)
"""


def test_runs_that_end_at_once(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], cwd=root, env={**os.environ})
        for name in "abc"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(rows(tmp_path)) == 18
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
