"""What every test run keeps to: lab tests run only where a lab can, and the host is the same afterwards.

A test marked `lab` works in real namespaces, and with the programs that --setup
installs; one marked `needs` with those programs that only some scenarios need; one
marked `browser` opens pages in Chromium.  Where one of them is missing, the test is
skipped and says why; with CI=true it fails instead, since a run that skipped what
matters must not be green.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoplab.setup import browser, packages, programs
from tests.host import Host

ROOT = Path(__file__).resolve().parents[1]
ALSO_NEEDED = ("tshark",)
"""Programs that lab tests use beyond those that a lab can't do without."""

ENTER_AND_LEAVE = """
from hoplab.net import sandbox
try:
    code = sandbox.run(lambda: 0)
except sandbox.SandboxRefused as refusal:
    code = str(refusal)
raise SystemExit(code)
"""
BEFORE = pytest.StashKey[Host]()


@functools.cache
def lacking() -> str:
    """Why no lab can run on this machine, '' when it can."""
    wanted = (each for each in packages.PACKAGES if each.needed or each.name in ALSO_NEEDED)
    if absent := packages.missing(wanted):
        programs = ", ".join(f"{each.program} ({each.name})" for each in absent)
        return f"missing: {programs}. `sudo python3 lab.py --setup` installs them"
    # In a process of its own: this one may have threads, which no fork takes along.
    entered = subprocess.run([sys.executable, "-c", ENTER_AND_LEAVE], cwd=ROOT, capture_output=True, text=True)
    return "" if entered.returncode == 0 else f"no sandbox: {entered.stderr.strip() or entered.returncode}"


def lacking_for(item: pytest.Item) -> str:
    """Why this test can't run here, '' when it can."""
    if item.get_closest_marker("lab") is not None and (reason := lacking()):
        return reason
    if item.get_closest_marker("browser") is not None and (reason := browser.lacking(str(ROOT))):
        return f"{reason}. `sudo python3 lab.py --setup test` installs them"
    wanted = [name for mark in item.iter_markers("needs") for name in mark.args]
    absent = [name for name in wanted if programs.find(name) is None]
    return f"missing: {', '.join(absent)}. `python3 lab.py --setup` unpacks them" if absent else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not (reason := lacking_for(item)):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and this machine can't run a lab. {reason}", pytrace=False)
    pytest.skip(f"this machine can't run a lab. {reason}")


@pytest.fixture
def host_to_itself() -> Iterator[None]:
    """For tests that compare the host before and after, or keep something on it for a while: one of them at a time.

    Tests run in several workers, maybe of several checkouts; a lock on the folder of temporary files is seen by all.
    """
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def pytest_configure() -> None:
    """Take requests to end as in a terminal: tests send them, and nohup or a shell's `&` had them ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    # With workers (pytest-xdist) their parent looks at the host: before the first and after the last of them.
    # Nft and friends are where an ordinary user's PATH may not lead.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = Host.now()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if BEFORE not in session.config.stash:
        return
    changes = session.config.stash[BEFORE].changes(Host.now())
    if not changes:
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.section("this run changed the host", sep="=", red=True)
        for change in changes:
            reporter.line(change)
