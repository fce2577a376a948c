"""The course's check files hold in a healthy lab, and its page names every file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "scenarios" / "course"
CHECKS = sorted(FOLDER.glob("[0-9]*.yaml"))
PAGE = ROOT / "docs" / "course.md"


@pytest.mark.lab
def test_the_check_files_hold(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hoplab.cli", "check", *map(str, CHECKS), "-q", "--captures", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": passed") == len(CHECKS) == 5


def test_the_page_names_every_file_of_the_course():
    page = PAGE.read_text(encoding="utf-8")
    files = [file.relative_to(ROOT) for file in FOLDER.rglob("*") if file.is_file()]
    assert len(files) > len(CHECKS)
    assert [str(file) for file in files if str(file) not in page] == []
