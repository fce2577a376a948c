"""Where a run's files go: also into places of which the lab has a copy of its own, and to whom they belong."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[3]
FILES = {"run.pcapng", "story.txt", "run.json", "run.html", "summary.json"}
PING = '"""Pings."""\ndef run(lab):\n    lab.host("client").send_icmp(lab.node("node1")).expect_outcome("accepted")\n'


def scenario(folder, *arguments, prefix=(), env=None, script=PING, **options):
    (folder / "ping.py").write_text(script)
    command = [*prefix, sys.executable, "-m", "hoplab.cli", "scenario", str(folder / "ping.py"), "-q", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


NEEDS_A_SMALL_DISK = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'


def on_a_disk(folder, options):
    """A prefix that runs a command with a file system of its own at `folder`: full soon, or read-only."""
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *who, "--mount", "sh", "-c", NEEDS_A_SMALL_DISK, "sh", options, str(folder)]


@pytest.mark.parametrize(
    ("options", "lost", "why"),
    [
        (
            "size=8k",
            r".*\brun\.html\b.*",
            r"No space left on device \(the disk is full: make",
        ),
        (
            "size=60k",
            r".*\brun\.html\b.*",
            r"No space left on device \(the disk is full: make",
        ),
        (
            "ro",
            r"run\.pcapng, story\.txt, run\.json and run\.html",
            r"Read-only file system \(the file system is read-only",
        ),
    ],
)
def test_a_disk_that_takes_no_more(tmp_path, options, lost, why):
    """The verdict is told all the same, the exit code is its own, and one message says what to do."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = scenario(tmp_path, "--captures", str(disk), prefix=on_a_disk(disk, options))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ping: passed (2 checks")
    [note] = done.stderr.splitlines()
    assert re.match(rf"lab\.py: note: {disk}/ping: {lost} (was|were) not written: {why}", note)


def test_a_folder_of_somebody_else(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    # An ordinary user, who has no rights over files of users that are not in its namespace.
    ordinary = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    done = scenario(tmp_path, "--captures", str(tmp_path / "theirs"), prefix=ordinary)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ping: passed (2 checks")
    [note] = done.stderr.splitlines()
    told = "run.pcapng, story.txt, run.json and run.html were not written: Permission denied (this user may not write"
    assert told in note


def test_a_failed_verdict_stays_failed_where_nothing_can_be_written(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = scenario(
        tmp_path, "--captures", str(disk), prefix=on_a_disk(disk, "ro"), script=PING.replace("accepted", "dropped")
    )
    assert done.returncode == 1
    assert done.stdout.startswith("ping: FAILED")
    assert "Read-only file system" in done.stderr


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(tmp_path):
    assert scenario(tmp_path, "--captures", str(tmp_path / "here")).returncode == 0
    made = tmp_path / "here" / "ping"
    (made / "run.pcapng").unlink()
    (made / "run.pcapng").mkdir()
    done = scenario(tmp_path, "--captures", str(tmp_path / "here"))
    assert done.returncode == 0
    assert "run.pcapng was not written: Is a directory (there is a folder of this name)" in done.stderr
    assert "pcapng" not in json.loads((made / "run.json").read_text())["artifacts"]


@pytest.fixture
def covered(host_to_itself):
    """A folder below /var/lib that this user may write to; the lab has a /var/lib of its own."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="hoplab-test-", dir="/var/lib"))
    except PermissionError:
        pytest.skip("this user may not write below /var/lib")
    yield folder
    shutil.rmtree(folder)


def test_below_a_directory_of_which_the_lab_has_its_own(covered, tmp_path):
    done = scenario(tmp_path, "--captures", str(covered / "new" / "folder"))
    assert (done.returncode, done.stderr) == (0, "")
    assert set(os.listdir(covered / "new" / "folder" / "ping")) == FILES


def test_a_relative_folder_is_the_callers(tmp_path):
    done = scenario(tmp_path, "--captures", "mine", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(os.listdir(tmp_path / "mine" / "ping")) == FILES


def test_what_cannot_be_made_there_is_told_before_the_run(tmp_path):
    done = scenario(tmp_path, "--captures", "/etc/hostname/captures")
    assert done.returncode == 2
    assert "choose another folder" in done.stderr


def test_under_sudo_the_files_are_the_callers(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can hand files over")
    done = scenario(tmp_path, "--captures", str(tmp_path), env={"SUDO_UID": "65534"})
    assert (done.returncode, done.stderr) == (0, "")
    made = tmp_path / "ping"
    assert {path.stat().st_uid for path in (made, *made.iterdir(), tmp_path / "index.html")} == {65534}
