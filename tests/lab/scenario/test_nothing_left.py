"""Whatever ends a run, and whenever: nothing of it stays, and the host is as it was.

Each run carries a word of its own in its environment, so that a process of it is
found wherever it hides; the host's network state, mounts and folders are compared
before and after.
"""

import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.host import children_of, processes_of
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("host_to_itself")]

ROOT = Path(__file__).resolve().parents[3]
MOMENTS_S = [0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0, 1.2, 1.5]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
SHOWN = [
    ["ip", "-o", "link"],
    ["ip", "-o", "address"],
    ["ip", "route", "show", "table", "all"],
    ["ip", "rule"],
    ["ip", "netns"],
    ["nft", "list", "ruleset"],
    ["sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.ip_local_port_range"],
]
FOLDERS = ["/run", "/etc", "/etc/cni", "/var/lib", "/var/lib/cni", "/var/log", "/run/netns", "/tmp"]


def host_state():
    state = {" ".join(argv): _lines(argv) for argv in SHOWN}
    state["mounts"] = Path("/proc/self/mounts").read_text()
    for folder in FOLDERS:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else None
        # Other users of this machine, pytest among them, keep files of their own in /tmp.
        state[folder] = names if folder != "/tmp" else [name for name in names if "hoplab" in name]
    return state


def _lines(argv):
    # Lifetimes of addresses count down by themselves.
    output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return [line.partition("valid_lft")[0] for line in output.splitlines()]


def wait_until_gone(word, deadline_s=10.0):
    """The kernel ends a PID namespace in its own time."""
    until(lambda: not processes_of(word), "the end of everything that was started", deadline_s)


def start(word, captures, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOPLAB_TEST_WORD": word}
    command = [sys.executable, "-m", "hoplab.cli", "scenario", "external-lb", "-q", "--captures", str(captures)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, **options)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_any_moment_leaves_nothing(number, tmp_path):
    before = host_state()
    for moment in MOMENTS_S[:: 1 if number is signal.SIGKILL else 2]:
        word = uuid.uuid4().hex
        run = start(word, tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(moment)
        except subprocess.TimeoutExpired:
            run.send_signal(number)
        code = run.wait(15)
        wait_until_gone(word)
        assert code in (0, -number, 128 + number, 130), f"at {moment} s"
    assert host_state() == before


@pytest.mark.parametrize("moment", [0.3, 0.9])
def test_a_closed_terminal_leaves_nothing(moment, tmp_path):
    before = host_state()
    word = uuid.uuid4().hex
    ours, theirs = pty.openpty()
    run = start(word, tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        run.wait(moment)
    except subprocess.TimeoutExpired:
        os.close(ours)
        # The hang-up goes to a controlling terminal's session; a terminal that merely goes away breaks its output.
        run.send_signal(signal.SIGHUP)
    run.wait(15)
    wait_until_gone(word)
    assert host_state() == before


WAITS = {
    "in a sleep": "open(WAITING, 'w'), time.sleep(3600)",
    "in the lab's loop": "lab.observer.run_until(lambda: not open(WAITING, 'w'), 3600, 'what never comes')",
    "in a loop of its own": "while True: open(WAITING, 'w').close()",
}
"""One line each, that says it was reached and waits: wherever in it the signal comes, this line is the one to name."""


@pytest.mark.parametrize("waits", WAITS)
def test_a_script_that_waits_for_ever_is_ended_by_ctrl_c_with_its_file_and_line(waits, tmp_path):
    before = host_state()
    word = uuid.uuid4().hex
    waiting = tmp_path / "waiting"
    script = tmp_path / "mine.py"
    script.write_text(f'"""Waits."""\nimport time\nWAITING = {str(waiting)!r}\ndef run(lab):\n    {WAITS[waits]}\n')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOPLAB_TEST_WORD": word}
    command = [sys.executable, "-m", "hoplab.cli", "scenario", str(script), "--captures", str(tmp_path)]
    # As a terminal does it: every process of the foreground group gets the signal.
    run = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    end = time.monotonic() + 30
    while not waiting.exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "the script was never played"
        os.sched_yield()
    os.killpg(run.pid, signal.SIGINT)
    output, errors = run.communicate(timeout=15)
    wait_until_gone(word)
    assert run.returncode == 130
    assert errors.decode() == f"lab.py: interrupted at {script}:5\n"
    assert output == b""
    assert host_state() == before


def test_killing_the_keeper_or_process_one_ends_the_run(tmp_path):
    before = host_state()
    for depth in (1, 2):
        word = uuid.uuid4().hex
        run = start(word, tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        victim = None
        while victim is None and time.monotonic() < end and run.poll() is None:
            victim = descendant(run.pid, depth)
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        assert run.wait(15) not in (0, None)
        wait_until_gone(word)
    assert host_state() == before


def descendant(pid, depth):
    """The first child of the first child ... of a process; None while there is none."""
    for _ in range(depth):
        try:
            children = children_of(pid)
        except OSError:
            return None
        if not children:
            return None
        pid = children[0]
    return pid


def test_a_whole_run_leaves_nothing_but_its_captures(tmp_path):
    before = host_state()
    word = uuid.uuid4().hex
    assert start(word, tmp_path, stdout=subprocess.DEVNULL).wait(60) == 0
    wait_until_gone(word)
    assert host_state() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["external-lb", "index.html"]
    left = sorted(path.name for path in (tmp_path / "external-lb").iterdir())
    assert left == ["run.html", "run.json", "run.pcapng", "story.txt", "summary.json"]
