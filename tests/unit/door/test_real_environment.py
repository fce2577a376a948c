"""A real environment: made, used, outdated, half-made, moved, and mended by --setup each time."""

import os
import shutil
from pathlib import Path

import pytest

from hoplab.setup import stamp
from hoplab.setup.programs import PROGRAMS
from tests.unit.door.clones import clone, lab, program

COMMAND_LINE = """
import sys
print("command line:", *sys.argv[1:])
raise SystemExit(7)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A machine where the programs that --setup would unpack are installed."""
    folder = tmp_path_factory.mktemp("installed")
    for package in PROGRAMS:
        program(folder / package.program, "#!/bin/sh\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, installed):
    """A clone whose environment is there; its requirements need no network, its command line prints its arguments."""
    here = clone(tmp_path_factory.mktemp("made") / "clone")
    (here / "hoplab" / "cli").mkdir()
    (here / "hoplab" / "cli" / "__init__.py").write_text("")
    (here / "hoplab" / "cli" / "__main__.py").write_text(COMMAND_LINE)
    (here / "requirements.txt").write_text("")
    (here / "requirements-dev.txt").write_text("-r requirements.txt\n")
    done = lab(here, "--setup")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return here


def broken(here: Path, fault: str) -> None:
    done = lab(here, "doctor")
    assert (done.returncode, done.stdout) == (3, "")
    assert fault in done.stderr


def mended(here: Path, said: str) -> None:
    done = lab(here, "--setup", "doctor")
    assert done.stdout == "command line: doctor\n", done.stderr
    assert said in done.stderr


def test_nothing_of_the_callers_folder_is_imported(made, tmp_path):
    for name in ("hoplab", "click", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the caller')\n")
    done = lab(made, "doctor", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (7, "command line: doctor\n")


def test_with_nothing_missing_setup_has_nothing_to_say_of_the_environment(made):
    done = lab(made, "--setup", "doctor")
    assert done.stdout == "command line: doctor\n"
    assert ".venv" not in done.stderr


def test_each_fault_is_told_and_mended(made, tmp_path):
    (made / "requirements.txt").write_text("# changed\n")
    broken(made, "older than the requirements")
    mended(made, "bringing the Python packages up to date")

    (made / "requirements.txt").write_text("./no-such-folder\n")
    done = lab(made, "--setup", "doctor")
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install" in done.stderr
    assert "no-such-folder" in done.stderr
    assert "call again" in done.stderr
    broken(made, "half-made")

    (made / "requirements.txt").write_text("")
    python = Path(stamp.python(str(made)))
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    mended(made, "making it anew")

    moved = shutil.move(made, tmp_path / "moved")
    try:
        broken(moved, "made for another folder")
    finally:
        shutil.move(moved, made)
