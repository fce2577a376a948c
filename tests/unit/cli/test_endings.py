"""Every way that a command can end, as an exit code and at most one message."""

import os
import signal
import subprocess
import sys

import click
import pytest

from hoplab.cli.endings import guarded, of_sandbox
from hoplab.errors import CannotRunHere, HoplabError, InputError
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed
from tests.unit.cli.calls import ROOT, lab


def raising(error):
    def command():
        raise error

    return command


ENDINGS = {
    "a message for users": (HoplabError("it did not hold"), 1, "lab.py: it did not hold"),
    "a wrong input": (InputError("svc.yaml:3: spec.ports: Required value"), 2, "lab.py: svc.yaml:3: spec.ports"),
    "a machine that lacks something": (CannotRunHere("nft is missing"), 3, "lab.py: nft is missing"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "lab.py: interrupted"),
    "Ctrl-C at a prompt": (click.Abort(), 130, "lab.py: interrupted"),
    "a wrong call": (click.UsageError("expected a name"), 2, "lab.py: expected a name"),
    "a program in the lab": (
        CommandFailed("node1", ["nft"], 1, "no rule"),
        1,
        "lab.py: node1: nft ended with 1: no rule",
    ),
    "a deadline": (DeadlinePassed("an answer", 2), 1, "lab.py: waited 2 s for an answer, in vain"),
    "the system": (OSError(28, "No space left on device"), 1, "No space left on device. `lab.py doctor`"),
    "a defect": (ZeroDivisionError("division by zero"), 1, "This is a defect; run again with --debug"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_error_is_one_message_and_a_code(name, capsys):
    error, code, message = ENDINGS[name]
    assert guarded(raising(error)) == code
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_commands_own_code_stays(code):
    assert guarded(lambda: code) == code


def test_with_debug_the_exception_comes_through():
    with pytest.raises(ZeroDivisionError):
        guarded(raising(ZeroDivisionError()), debug=True)
    with pytest.raises(InputError):
        guarded(raising(InputError("x")), debug=True)


INTERRUPTED_IN_TEXT = """
from hoplab.cli.endings import guarded
raise SystemExit(guarded(lambda: exec("raise KeyboardInterrupt")))
"""
INTERRUPTED_IN_A_CLASS = """
from hoplab.cli.endings import guarded
class Field:
    def __set_name__(self, owner, name):
        raise KeyboardInterrupt
raise SystemExit(guarded(lambda: type("Owner", (), {"field": Field()})))
"""


@pytest.mark.parametrize("text", [INTERRUPTED_IN_TEXT, INTERRUPTED_IN_A_CLASS], ids=["in text", "in a class"])
def test_ctrl_c_at_an_import_is_130_as_well(text, tmp_path):
    (tmp_path / "interrupted.py").write_text(text)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    # As a module, since a script ends in another way (Py_RunMain in Modules/main.c).
    argv = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(argv, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "lab.py: interrupted\n")


@pytest.mark.parametrize(
    ("sandbox", "expected"),
    [
        (0, 0),
        (1, 1),
        (3, 3),
        (128 + signal.SIGINT, 130),
        (128 + signal.SIGTERM, 130),
        (128 + signal.SIGHUP, 130),
        (128 + signal.SIGKILL, 1),
        (128 + signal.SIGSEGV, 1),
    ],
)
def test_the_sandboxs_code(sandbox, expected):
    assert of_sandbox(sandbox) == expected


def test_a_lab_that_was_killed_says_by_what(capsys):
    of_sandbox(128 + signal.SIGKILL)
    assert "ended from outside by SIGKILL" in capsys.readouterr().err


class TestStreams:
    def test_a_reader_that_goes_is_no_trouble(self):
        """`lab.py rules ... | head -1`: nothing is said of a broken pipe."""
        heard, told = os.pipe()
        os.close(heard)
        manifest = ROOT / "scenarios" / "manifests" / "services-a-b.yaml"
        with os.fdopen(told, "w") as pipe:
            done = lab("rules", "-f", str(manifest), "--node", "node1", stdout=pipe, stderr=subprocess.PIPE)
        assert "BrokenPipe" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_closed_standard_output(self):
        script = f"exec {sys.executable} -P -m hoplab.cli --version >&-"
        done = subprocess.run(
            ["sh", "-c", script], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_full_disk(self):
        with open("/dev/full", "w") as full:
            done = lab("--help", stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_request_to_end_is_130(number):
    """The command waits for a manifest that never comes (a FIFO) when the signal meets it."""
    script = (
        "import os, signal, sys\n"
        "from hoplab.cli import main\n"
        "from hoplab.cli.endings import end_by_signal, guarded\n"
        "end_by_signal()\n"
        f"def command():\n    os.kill(os.getpid(), {int(number)})\n    signal.pause()\n"
        "sys.exit(guarded(command))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "lab.py: interrupted\n"
