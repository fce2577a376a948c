"""What a look costs, and how lab.py hands over: with every argument, as the same process."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.door.clones import ROOT, clone, furnish, lab


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return clone(tmp_path / "hoplab clone")


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


def test_programs_of_root_are_on_the_path_behind_the_users_own(here: Path):
    furnish(here, '#!/bin/sh\necho "$PATH"\n')
    done = lab(here, "doctor", env={**os.environ, "PATH": "/mine:/usr/bin:/sbin"})
    assert done.stdout.strip() == "/mine:/usr/bin:/sbin:/usr/local/sbin:/usr/sbin"


def test_even_python_2_comes_as_far_as_the_message():
    """No annotations and no f-strings, which it takes for syntax errors."""
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
    nodes = list(ast.walk(ast.parse((ROOT / "lab.py").read_text())))
    assert not [node for node in nodes if isinstance(node, modern)]
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef) and node.returns]
