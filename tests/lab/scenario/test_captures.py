"""Where a run's files go: also into places of which the lab has a copy of its own, and to whom they belong."""

import os
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


def scenario(folder, *arguments, prefix=(), env=None, **options):
    (folder / "ping.py").write_text(PING)
    command = [*prefix, sys.executable, "-m", "hoplab.cli", "scenario", str(folder / "ping.py"), "-q", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


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
