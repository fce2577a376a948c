"""Makes what must be there before the first command can run: packages, the .venv, the bridge's netfilter.

Everything is done once and told in a line; what is there already is left alone, and
what a killed set-up left half-made is made anew.  Nothing here is asked for by name
of a host: where packages come from is the machine's own configuration.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hoplab.setup import browser, packages, programs, stamp

NEWEST = (3, 13)
"""The newest Python that is tested; a newer one is taken all the same when there is no other."""
KNOWN = ("python3.13", "python3.12", "python3.11")

BRIDGE_NETFILTER = "/proc/sys/net/bridge"


def say(what: str) -> None:
    """One line of progress; standard output belongs to the command that follows."""
    print(f"setup: {what}", file=sys.stderr, flush=True)


def make(here: str) -> str:
    """Install what is missing; the problem that remains, '' when all is there."""
    # Others than its maker use the environment, too.
    os.umask(0o022)
    problem = packages.make(say) or make_venv(here)
    if problem:
        return problem
    programs.make(here, say)
    user = owner(here)
    if user is not None and os.path.isdir(programs.folder(here)):
        give(programs.folder(here), user)
    return _load_bridge_netfilter()


def make_for_tests(here: str) -> None:
    """Install what only the tests of pages need; without it they are skipped, so a problem is told and no more."""
    if not browser.lacking(here):
        return
    problem = browser.make(here, say)
    if problem:
        say(f"going on without a browser for the tests of pages: {problem}")
    else:
        _hand_over(here)


def make_venv(here: str) -> str:
    """Make, repair or update the .venv; the problem that remains, '' when it is good."""
    if not stamp.fault(here):
        return ""
    if not os.access(here, os.W_OK):
        return f"{here} is not yours to write, so no environment can be made in it: use a clone of your own, or sudo"
    with _alone(here):
        # Another --setup may have made it while this one waited.
        return _make_venv(here) if stamp.fault(here) else ""


@contextmanager
def _alone(here: str) -> Iterator[None]:
    """Hold the project's folder against another --setup; the kernel lets go of it when this process ends."""
    folder = os.open(here, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another --setup in this folder")
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            # NFS, and the folders that a virtual machine shares with its host, may know no locks.
            say(f"going on without a lock: {error}")
        yield
    finally:
        os.close(folder)


def _make_venv(here: str) -> str:
    folder = stamp.folder(here)
    update = stamp.only_outdated(here)
    if update:
        say("bringing the Python packages up to date: the requirements changed")
        os.unlink(stamp.path(here))
    else:
        if os.path.lexists(folder) and not _is_empty(folder):
            say(f"making it anew: {stamp.fault(here)}")
            problem = _remove(folder)
            if problem:
                return problem
        interpreter = choose_python()
        problem = packages.make_venv_module(interpreter, _has_ensurepip(interpreter), say)
        if problem:
            return problem
        say(f"making {folder} with {interpreter}")
        problem = packages.run([interpreter, "-m", "venv", folder])
        if problem:
            return problem
        say("installing the Python packages of requirements-dev.txt (a minute or so)")
    python = stamp.python(here)
    requirements = os.path.join(here, "requirements-dev.txt")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    problem = packages.run([*pip, "-r", requirements])
    problem = problem or packages.run([python, "-m", "pip", "check", "--disable-pip-version-check"])
    if problem:
        return problem
    _know_project(here, python)
    _write(stamp.path(here), stamp.expected(here))
    _hand_over(here)
    return ""


def _is_empty(folder: str) -> bool:
    return os.path.isdir(folder) and not os.path.islink(folder) and not os.listdir(folder)


def _remove(folder: str) -> str:
    try:
        if os.path.islink(folder) or not os.path.isdir(folder):
            os.unlink(folder)
        else:
            shutil.rmtree(folder)
    except OSError as error:
        if error.errno == errno.EBUSY and not os.listdir(folder):
            # Something is mounted there, as in the virtual machine (Vagrantfile): emptied, it is as good as new.
            return ""
        return f"{folder} can't be removed: {error}. Remove it (sudo rm -r {folder}) and call again"
    return ""


def choose_python() -> str:
    """The interpreter that the environment is made with: the running one, unless another is clearly better.

    Better is: one of the same version that every user may run, where the running one
    lies in somebody's home (root's pyenv, say); one of the tested versions, where the
    running one is newer than they are.
    """
    # Inside another venv, base_prefix leads to the Python behind it, which outlives that venv.
    own = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    version = sys.version_info[:2]
    if version > NEWEST:
        return next((found for found in map(shutil.which, KNOWN) if found), own)
    if not _for_everybody(own):
        name = f"python{version[0]}.{version[1]}"
        system = shutil.which(name, path="/usr/local/bin:/usr/bin")
        if system and _for_everybody(os.path.realpath(system)):
            return system
    return own


def _for_everybody(program: str) -> bool:
    """Whether every user of the machine may run a program: it and all folders above are open to others."""
    if not os.stat(program).st_mode & 0o001:
        return False
    folder = os.path.dirname(program)
    while folder != "/":
        if not os.stat(folder).st_mode & 0o001:
            return False
        folder = os.path.dirname(folder)
    return True


def _has_ensurepip(interpreter: str) -> bool:
    if os.path.realpath(interpreter) == os.path.realpath(sys.executable):
        return importlib.util.find_spec("ensurepip") is not None
    asked = subprocess.run([interpreter, "-I", "-c", "import ensurepip"], capture_output=True, check=False)
    return asked.returncode == 0


def _know_project(here: str, python: str) -> None:
    """Have the environment's Python find the package hoplab, from whatever folder it is started."""
    asked = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    _write(os.path.join(site, "hoplab.pth"), f"{here}\n")


def _write(path: str, text: str) -> None:
    """Write a file that is there whole or not at all."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def owner(here: str) -> tuple[int, int] | None:
    """Whose files these should be when root makes them: sudo's caller, else the folder's owner; None for root's own."""
    if os.geteuid() != 0:
        return None
    caller = os.environ.get("SUDO_UID", "")
    try:
        uid = int(caller) if caller.isdigit() else os.stat(here).st_uid
        return (uid, pwd.getpwuid(uid).pw_gid) if uid else None
    except KeyError:
        return None


def _hand_over(here: str) -> None:
    """Give the environment, and the compiled files of the project, to its user: to use and remove without sudo."""
    user = owner(here)
    if user is None:
        return
    # Compiled now, so that no later run by root leaves folders in the clone that its user can't remove.
    package = os.path.join(here, "hoplab")
    subprocess.run([stamp.python(here), "-m", "compileall", "-q", package], capture_output=True, check=False)
    try:
        give(stamp.folder(here), user)
        for root, folders, _files in os.walk(package):
            if "__pycache__" in folders:
                give(os.path.join(root, "__pycache__"), user)
    except OSError as error:
        # A shared folder may know no owners; then nobody is kept out by them, either.
        say(f"some files stay root's: {error}")


def give(folder: str, user: tuple[int, int]) -> None:
    """chown a folder and all below it; links themselves, never what they lead to."""
    os.chown(folder, *user, follow_symlinks=False)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(root, name), *user, follow_symlinks=False)


def _load_bridge_netfilter() -> str:
    """Load br_netfilter where it is a module: nodes need it, and only root can, and only outside a lab.

    Once loaded it would send the host's own bridges' frames through the host's rules;
    the host is set back to how it was, and each lab switches it on for itself.
    """
    if os.path.isdir(BRIDGE_NETFILTER) or os.geteuid() != 0:
        return ""
    modprobe = shutil.which("modprobe", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not modprobe or subprocess.run([modprobe, "br_netfilter"], capture_output=True, check=False).returncode != 0:
        say("the kernel has no br_netfilter: bridged packets will not meet iptables (`lab.py doctor` tells more)")
        return ""
    for name in ("iptables", "ip6tables", "arptables"):
        _write_knob(f"{BRIDGE_NETFILTER}/bridge-nf-call-{name}", "0")
    say("loaded the kernel module br_netfilter; it stays off for the bridges of the host")
    return ""


def _write_knob(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as knob:
        knob.write(value)
