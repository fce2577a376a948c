"""When an environment is good, and what is said of one that is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hoplab.setup import stamp
from tests.unit.door.clones import clone, furnish


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = clone(tmp_path / "clone")
    furnish(folder)
    return folder


def test_a_fresh_one_has_no_fault(here: Path):
    assert stamp.fault(str(here)) == ""
    assert stamp.only_outdated(str(here))


def test_none_at_all(here: Path):
    shutil.rmtree(here / ".venv")
    assert stamp.fault(str(here)).endswith("is not there yet")
    assert not stamp.only_outdated(str(here))


@pytest.mark.parametrize("requirements", stamp.REQUIREMENTS)
def test_older_than_the_requirements(here: Path, requirements: str):
    with (here / requirements).open("a") as file:
        file.write("another==1.0\n")
    assert stamp.fault(str(here)).endswith("is older than the requirements")
    assert stamp.only_outdated(str(here))


def test_half_made_where_the_stamp_is_missing(here: Path):
    Path(stamp.path(str(here))).unlink()
    assert stamp.fault(str(here)).endswith("is half-made")
    assert not stamp.only_outdated(str(here))


def test_half_made_where_the_stamp_is_damaged(here: Path):
    Path(stamp.path(str(here))).write_bytes(b"\xff\xfe")
    assert stamp.fault(str(here)).endswith("is half-made")
    assert not stamp.only_outdated(str(here))


def test_moved_to_another_folder(here: Path):
    moved = here.rename(here.parent / "elsewhere")
    assert stamp.fault(str(moved)).endswith("was made for another folder or another Python")
    assert not stamp.only_outdated(str(moved))


def test_its_python_is_another_one_now(here: Path):
    python = Path(stamp.python(str(here)))
    other = python.rename(here / "python3.99")
    python.symlink_to(other)
    assert stamp.fault(str(here)).endswith("was made for another folder or another Python")
    assert not stamp.only_outdated(str(here))


def test_its_python_is_gone(here: Path):
    python = stamp.python(str(here))
    Path(python).unlink()
    assert stamp.fault(str(here)).endswith(f"needs the Python {python}, which is gone or not yours to run")
    assert not stamp.only_outdated(str(here))
