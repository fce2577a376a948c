"""The state folder: private, one lab a name, gone with its lab, and what a killed lab left is recognised."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hoplab.errors import CannotRunHere, InputError
from hoplab.labs import state

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from pathlib import Path
from hoplab.labs import state
held = state.claim(sys.argv[2], Path(sys.argv[1]))
held.write_facts(state.Facts(sys.argv[2], "cloud", 1, 2.0))
print("held", flush=True)
sys.stdin.read()
held.release()
"""


@pytest.fixture
def top(tmp_path):
    return tmp_path / "hoplab-labs"


@pytest.fixture
def holder(top):
    started = []

    def start(name):
        command = [sys.executable, "-c", HOLD, str(top), name]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_lab_lives_as_long_as_somebody_holds_its_folder(top, holder):
    assert state.alive(top) == []
    one, _two = holder("one"), holder("two")
    assert state.alive(top) == ["one", "two"]
    assert state.facts("one", top) == state.Facts("one", "cloud", 1, 2.0)
    one.communicate("")
    assert state.alive(top) == ["two"]


def test_the_folder_is_this_users_alone(top, holder):
    holder("one")
    assert [path.stat().st_mode & 0o777 for path in (top, top / "one", top / "one" / "lab.json")] == [
        0o700,
        0o700,
        0o600,
    ]


def test_a_name_is_taken_while_its_lab_lives_and_free_at_once_when_it_was_killed(top, holder):
    first = holder("one")
    with pytest.raises(InputError, match=r"lab\.py down --name one"):
        state.claim("one", top)
    first.kill()
    first.wait()
    claim = state.claim("one", top)
    assert state.alive(top) == ["one"]
    assert state.facts("one", top) is None
    claim.release()


def test_what_a_killed_lab_left_is_removed_by_whoever_looks_next(top, holder):
    killed = holder("one")
    killed.kill()
    killed.wait()
    assert (top / "one" / "lab.json").exists()
    assert state.alive(top) == []
    assert not top.exists()


def test_a_folder_that_is_no_labs_is_left_alone(top, holder):
    """Whatever else lies there: only files that a lab has are ever removed."""
    (top / "somebodys" / "deep").mkdir(parents=True)
    (top / "somebodys" / "lab.json").write_text("{}")
    (top / "file").write_text("kept")
    assert state.alive(top) == []
    assert (top / "somebodys" / "lab.json").exists()
    assert (top / "file").exists()


def test_nothing_is_left_when_the_last_lab_has_gone(top, holder):
    holder("one").communicate("")
    assert not top.exists()
    assert list(top.parent.iterdir()) == []


def test_a_folder_that_others_could_write_is_closed_to_them(top):
    top.mkdir(mode=0o777)
    top.chmod(0o777)
    state.claim("one", top).release()
    top.mkdir(mode=0o700, exist_ok=True)
    assert top.stat().st_mode & 0o077 == 0


def test_a_folder_without_room_is_told_by_the_file_that_had_none(top):
    held = state.claim("lab", top)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(CannotRunHere, match=r"hoplab-labs/lab/lab\.json can't be written \(File too large\)"):
            held.write_facts(state.Facts("lab", "cloud", 1, 2.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    held.release()
    assert not top.exists()


def test_a_folder_of_somebody_else_is_refused(top, monkeypatch):
    top.mkdir()
    owner = top.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CannotRunHere, match="belongs to user"):
        state.claim("one", top)


def test_a_link_in_the_folders_place_is_refused(top, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    top.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotRunHere, match="should be a folder of yours"):
        state.claim("one", top)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "A", "a" * 41, "a b"])
def test_a_name_that_is_none_is_refused(name, top):
    with pytest.raises(InputError, match="a lab's name is"):
        state.claim(name, top)


def test_the_lab_that_is_meant(top, holder):
    with pytest.raises(InputError, match="no lab is running"):
        state.choose(None, top)
    holder("first")
    assert state.choose(None, top) == "first"
    holder("second")
    with pytest.raises(InputError, match="say which with --name"):
        state.choose(None, top)
    assert state.choose("second", top) == "second"
    with pytest.raises(InputError, match="Did you mean first"):
        state.choose("frist", top)


def test_the_place_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert state.root() == tmp_path / "hoplab-labs"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert state.root() != Path("relative/hoplab-labs")
    # Another user's runtime folder, as `sudo -E` or `su` may leave it in the environment.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert not state.root().is_relative_to(tmp_path)
