"""What is being waited for stands on a terminal's standard error, and nowhere else."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from hoplab.cli import progress
progress.PATIENCE_S = {patience}
with progress.Progress("external\\x1b[31m-lb", shown={shown}) as line:
    line.note("12 probes from client")
    print("from a script", flush=True)
    sys.stdin.readline()
    line.note("the files of the run")
    sys.stdin.readline()
print("the story", flush=True)
"""


class OnATerminal:
    """The script with standard error on a terminal of its own, standard output on a pipe."""

    def __init__(self, patience: float, *, shown: bool = True, term: str = "xterm") -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(patience=patience, shown=shown)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=slave, text=True, env=environment,
        )  # fmt: skip
        os.close(slave)
        self.told = ""

    def until(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.told:
            assert select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0], self.told
            self.told += os.read(self.master, 4096).decode()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Standard output; what standard error told is in `told`."""
        out, _err = self.process.communicate("\n\n", timeout=20)
        while True:
            try:
                read = os.read(self.master, 4096).decode()
            except OSError:
                # Linux says EIO when nobody holds the other end any more.
                break
            if not read:
                break
            self.told += read
        os.close(self.master)
        assert self.process.returncode == 0
        return out


def test_a_long_wait_says_what_for_and_is_gone_afterwards() -> None:
    run = OnATerminal(0.05)
    run.until("waiting for 12 probes from client")
    run.go_on()
    run.until("waiting for the files of the run")
    out = run.end()
    assert out == "from a script\nthe story\n"
    assert r"external\x1b[31m-lb" in run.told
    # The last thing is the line being erased; the cursor was never hidden, so nobody has to show it again.
    assert run.told.endswith("\x1b[2K")
    assert "\x1b[?25l" not in run.told


@pytest.mark.parametrize(
    ("patience", "shown", "term"), [(30, True, "xterm"), (0, False, "xterm"), (0, True, "dumb")],
    ids=["a short wait", "with --json", "a terminal that can't erase"],
)  # fmt: skip
def test_nothing_is_shown(patience: float, shown: bool, term: str) -> None:
    run = OnATerminal(patience, shown=shown, term=term)
    assert run.end() == "from a script\nthe story\n"
    assert run.told == ""


def test_nothing_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(patience=0, shown=True)],
        input="\n\n", capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("from a script\nthe story\n", "")
