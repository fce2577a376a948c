"""lab.py before there is any environment, and how it makes one, loses it and repairs it."""

import ast
import os
import runpy
import sys
import time
from pathlib import Path

import pytest

from hoplab.setup import door, stamp
from tests.unit.door.project import ROOT, call, project


@pytest.fixture
def fresh(tmp_path):
    return project(tmp_path / "clone")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project whose environment is there."""
    folder = project(tmp_path_factory.mktemp("made") / "clone")
    done = call(folder / "lab.py", "--setup")
    assert done.returncode == 0, done.stderr
    return folder


class TestTooOld:
    def test_every_python_3_can_read_the_file(self):
        ast.parse((ROOT / "lab.py").read_text(), feature_version=(3, 6))

    def test_it_says_what_it_needs_and_ends_with_3(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "hexversion", 0x030A0000)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "lab.py"), run_name="__main__")
        assert ended.value.code == 3
        assert "needs Python 3.11 or newer" in capsys.readouterr().err


class TestNothingThere:
    def test_it_names_the_one_command_to_type(self, fresh):
        done = call(fresh / "lab.py", "scenario", "external-lb", cwd=fresh)
        assert done.returncode == 3
        assert "is not there yet" in done.stderr
        assert "lab.py --setup scenario external-lb" in done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr

    def test_help_says_how_to_begin(self, fresh):
        done = call(fresh / "lab.py", "--help", cwd=fresh)
        assert done.returncode == 3
        assert "--setup" in done.stdout

    def test_the_command_fits_the_folder_it_is_typed_in(self, fresh, tmp_path):
        done = call(fresh / "lab.py", "doctor", cwd=tmp_path)
        assert " clone/lab.py --setup doctor" in done.stderr


class TestMade:
    def test_it_becomes_the_command_with_its_exit_code(self, made):
        done = call(made / "lab.py", "scenario", "--x", "a b")
        assert (done.returncode, done.stdout) == (7, "command line: scenario --x a b\n")

    def test_through_a_link_from_another_folder(self, made, tmp_path):
        (tmp_path / "linked.py").symlink_to(made / "lab.py")
        done = call(tmp_path / "linked.py", "doctor", cwd=tmp_path)
        assert done.stdout == "command line: doctor\n"

    def test_files_of_the_callers_folder_are_not_imported(self, made, tmp_path):
        for name in ("hoplab", "click", "runpy"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the caller')\n")
        assert call(made / "lab.py", "doctor", cwd=tmp_path).stdout == "command line: doctor\n"

    def test_with_nothing_missing_the_set_up_is_quick_and_silent(self, made):
        started = time.monotonic()
        done = call(made / "lab.py", "--setup", "doctor")
        assert time.monotonic() - started < 1
        assert done.stdout == "command line: doctor\n"
        # A machine without the optional programs may say so; about the environment there is nothing to say.
        assert ".venv" not in done.stderr

    def test_set_up_alone_runs_nothing(self, made):
        done = call(made / "lab.py", "--setup")
        assert (done.returncode, done.stdout) == (0, "")


class TestRepair:
    """Each fault is told by a command, and mended by --setup."""

    def broken(self, folder: Path, fault: str) -> None:
        done = call(folder / "lab.py", "doctor")
        assert done.returncode == 3
        assert fault in done.stderr

    def mended(self, folder: Path, said: str) -> None:
        done = call(folder / "lab.py", "--setup", "doctor")
        assert done.stdout == "command line: doctor\n", done.stderr
        assert said in done.stderr

    def test_faults_one_after_the_other(self, made, tmp_path):
        (made / "requirements.txt").write_text("# changed\n")
        self.broken(made, "older than the requirements")
        self.mended(made, "bringing the Python packages up to date")

        Path(stamp.path(str(made))).unlink()
        self.broken(made, "half-made")

        python = Path(stamp.python(str(made)))
        python.unlink()
        python.symlink_to("/nowhere/python3.11")
        self.broken(made, "half-made")
        self.mended(made, "making it anew")

        moved = tmp_path / "moved"
        made.rename(moved)
        try:
            self.broken(moved, "made for another folder")
        finally:
            moved.rename(made)

    def test_packages_that_cannot_be_installed(self, fresh):
        (fresh / "requirements.txt").write_text("./no-such-folder\n")
        done = call(fresh / "lab.py", "--setup", "doctor")
        assert done.returncode == 3
        assert "pip install" in done.stderr
        assert "no-such-folder" in done.stderr
        assert "call again" in done.stderr
        assert done.stdout == ""
        assert "half-made" in call(fresh / "lab.py", "doctor").stderr


class TestBecome:
    def test_an_ordinary_users_path_leads_to_nft_and_iptables(self, monkeypatch):
        asked = {}
        monkeypatch.setattr(os, "execv", lambda program, argv: asked.update(program=program, argv=argv))
        monkeypatch.setenv("PATH", "/usr/bin:/usr/sbin")
        door.become("/somewhere", ["doctor", "--json"])
        assert asked["program"] == "/somewhere/.venv/bin/python"
        assert asked["argv"][1:] == ["-P", "-m", "hoplab.cli", "doctor", "--json"]
        assert os.environ["PATH"] == "/usr/bin:/usr/sbin:/usr/local/sbin:/sbin"

    def test_an_interrupted_set_up_ends_with_130(self, monkeypatch, capsys):
        def interrupted(_here):
            raise KeyboardInterrupt

        monkeypatch.setattr("hoplab.setup.environment.make", interrupted)
        assert door.main("/somewhere", ["--setup"]) == 130
        assert "interrupted" in capsys.readouterr().err
