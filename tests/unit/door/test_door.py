"""lab.py before anything is installed, and how it hands over once the environment is there."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.door.clones import ROOT, clone, furnish, lab


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return clone(tmp_path / "hoplab clone")


def test_without_an_environment_it_names_the_one_command(here: Path):
    done = lab(here, "scenario", "external-lb")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"the environment {here}/.venv is not there yet" in done.stderr
    assert done.stderr.endswith("lab.py --setup scenario external-lb\n")


def test_the_command_is_right_from_another_folder(here: Path):
    done = lab(here, "doctor", cwd=here.parent)
    assert "hoplab clone/lab.py --setup doctor" in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_needs_no_environment_to_tell_of_setup(here: Path, option: str):
    done = lab(here, option)
    assert done.returncode == 3
    assert "--setup comes first and installs what is missing" in done.stdout


def test_nothing_is_written_by_a_look(here: Path):
    before = sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts)
    lab(here, "doctor")
    assert sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts) == before


ARGUMENTS = ("scenario", "a b", "", "'$HOME'", "--json", "--setup", "-x=1", "ü")


def test_arguments_exit_code_and_output_are_the_commands_own(here: Path):
    furnish(here)
    done = lab(here, *ARGUMENTS)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines() == ["-P", "-m", "hoplab.cli", *ARGUMENTS]


def test_the_command_is_this_very_process(here: Path):
    """So that a signal meets it, and not a parent that would have to pass it on."""
    furnish(here, "#!/bin/sh\necho $$\n")
    process = subprocess.Popen([sys.executable, here / "lab.py", "doctor"], stdout=subprocess.PIPE, text=True)
    assert process.communicate()[0].strip() == str(process.pid)


def test_it_is_found_through_a_link(here: Path, tmp_path: Path):
    furnish(here)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lab.py").symlink_to(here / "lab.py")
    assert lab(tmp_path / "bin", "doctor", cwd=tmp_path).returncode == 7


def test_programs_of_root_are_on_the_path_behind_the_users_own(here: Path):
    furnish(here, '#!/bin/sh\necho "$PATH"\n')
    done = lab(here, "doctor", env={**os.environ, "PATH": "/mine:/usr/bin:/sbin"})
    assert done.stdout.strip() == "/mine:/usr/bin:/sbin:/usr/local/sbin:/usr/sbin"


def test_a_look_takes_no_time_to_speak_of(here: Path):
    """Whatever else the machine does, one of five is quick: no process is started and no package imported."""
    furnish(here)

    def seconds() -> float:
        started = time.monotonic()
        lab(here, "doctor")
        return time.monotonic() - started

    assert min(seconds() for _ in range(5)) < 0.3


def test_an_interrupted_setup_says_how_to_go_on(here: Path):
    script = (
        "import sys; sys.argv = ['lab.py', '--setup']\n"
        f"sys.path.insert(0, {str(here)!r})\n"
        "from hoplab.setup import door, environment\n"
        "def interrupt(here): raise KeyboardInterrupt\n"
        "environment.make = interrupt\n"
        f"sys.exit(door.main({str(here)!r}, ['--setup']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "lab.py: interrupted; --setup goes on where it was when called again\n"


class TestAnOldPython:
    def test_it_is_told_what_to_call_instead(self):
        door = str(ROOT / "lab.py")
        script = f"import runpy, sys; sys.hexversion = 0x030A0DF0; runpy.run_path({door!r}, {{}}, '__main__')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert "hoplab needs Python 3.11 or newer; this is 3." in done.stderr
        assert "python3.11 lab.py" in done.stderr

    def test_it_can_read_the_file_at_all(self):
        """No annotations and no f-strings: Python 2 must come as far as the message."""
        modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
        nodes = list(ast.walk(ast.parse((ROOT / "lab.py").read_text())))
        assert not [node for node in nodes if isinstance(node, modern)]
        assert not [node for node in nodes if isinstance(node, ast.FunctionDef) and node.returns]
