"""What must be there before the first command can run, and how it is made.

The .venv beside lab.py holds the pinned Python packages; a stamp in it says for which
requirements and which Python it was made, so that nothing is done twice and a
half-made, moved or outdated one is made anew.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hoplab.setup import packages

STAMP = ".hoplab-stamp"
NEWEST = (3, 13)
"""The newest Python that is tested; a newer one is tried all the same when there is no other."""


def python(here: Path) -> str:
    """The environment's interpreter."""
    return str(here / ".venv" / "bin" / "python")


def stdlib_has_distutils(here: Path) -> bool:
    """Whether the environment's Python still brings distutils itself (3.11 does, 3.12 dropped it)."""
    return (here / ".venv" / "lib" / "python3.11").is_dir()


def _fingerprint(here: Path) -> str:
    texts = b"".join((here / name).read_bytes() for name in ("requirements.txt", "requirements-dev.txt"))
    return f"{hashlib.sha256(texts).hexdigest()} {here}"


def _venv_is_good(here: Path) -> bool:
    try:
        stamp = (here / ".venv" / STAMP).read_text(encoding="utf-8")
    except OSError:
        return False
    # A venv whose interpreter was removed (an upgrade of the distribution) has a dangling link.
    return stamp == _fingerprint(here) and Path(python(here)).exists()


def missing(here: Path) -> str:
    """What keeps a command from running, with the one command that helps; '' when nothing does."""
    if _venv_is_good(here):
        return ""
    command = f"python3 {Path(sys.argv[0]).name} --setup {' '.join(sys.argv[1:])}".strip()
    what = "was made for other requirements or another folder" if (here / ".venv").exists() else "is not there yet"
    return f"the environment {here / '.venv'} {what}. Make it, as root or with sudo: {command}"


def make(here: Path) -> str:
    """Install what is missing, saying each thing; the problem that remains, '' when all is there."""
    problem = _make_packages() or _make_venv(here) or _load_bridge_netfilter()
    return problem


def _say(what: str) -> None:
    print(f"setup: {what}", file=sys.stderr, flush=True)


def _make_packages() -> str:
    names = [name for name, _purpose in packages.PACKAGES]
    try:
        absent = packages.missing(names)
    except FileNotFoundError:
        return (
            "--setup knows Debian and Ubuntu (dpkg-query is not there). Install the like of these yourself and call"
            f" again without --setup: {', '.join(names)}"
        )
    if not absent:
        return ""
    for name in absent:
        _say(f"installing {name}: {dict(packages.PACKAGES)[name]}")
    return packages.install(absent)


def _make_venv(here: Path) -> str:
    if _venv_is_good(here):
        return ""
    folder = here / ".venv"
    if folder.exists():
        _say(f"removing {folder}: half-made, moved, or made for other requirements")
        shutil.rmtree(folder)
    _say(f"making {folder} with Python {sys.version_info.major}.{sys.version_info.minor}")
    for step in (
        [sys.executable, "-m", "venv", str(folder)],
        [python(here), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        + ["-r", str(here / "requirements-dev.txt")],
    ):
        if "pip" in step:
            _say("installing the Python packages of requirements-dev.txt")
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            last = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            return f"`{' '.join(step)}` failed:\n    {last}\n  Repair that (network? disk space?) and call again."
    # Compiled ahead, since a run by another user, or with bytecode switched off, would compile every time.
    subprocess.run(
        [python(here), "-m", "compileall", "-q", str(here / "hoplab"), str(here / "topologies")],
        capture_output=True,
        check=False,
    )
    _write_stamp(here)
    _give_to_caller(folder)
    return ""


def _write_stamp(here: Path) -> None:
    folder = here / ".venv"
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        file.write(_fingerprint(here))
    os.chmod(file.name, 0o644)
    os.replace(file.name, folder / STAMP)


def _give_to_caller(folder: Path) -> None:
    """Under sudo the .venv belongs to who called it, so that it can be used, and removed, without sudo."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit():
        return
    try:
        gid = pwd.getpwuid(int(uid)).pw_gid
    except KeyError:
        return
    for root, folders, files in os.walk(folder):
        for name in (root, *(os.path.join(root, each) for each in (*folders, *files))):
            os.chown(name, int(uid), gid, follow_symlinks=False)


def _load_bridge_netfilter() -> str:
    """Load br_netfilter where it is a module: nodes need it, and only root can, and only outside a lab."""
    if os.path.isdir("/proc/sys/net/bridge") or os.geteuid() != 0:
        return ""
    _say("loading the kernel module br_netfilter (bridged packets meet iptables, as on every node)")
    subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    return ""
