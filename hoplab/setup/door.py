"""What lab.py does: look whether the environment is there, make it when asked to, become the command line.

Looking costs a few file reads and no process.  The command replaces this process
(execv), so signals, exit codes and the terminal are the command's own.
"""

from __future__ import annotations

import os
import sys

from hoplab.setup import stamp

SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps nft, iptables, ip and sysctl: not on an ordinary user's PATH."""

HELP = """\
lab.py [--setup] COMMAND ...

--setup comes first and installs what is missing: Debian packages (as root, or by
sudo) and the Python packages in .venv.  Alone it only installs.  What commands there
are, `lab.py --help` tells once the environment is there.
"""


def main(here: str, arguments: list[str]) -> int:
    """Run `lab.py ARGUMENTS` for the project in the folder `here`; returns only when there is no command to become."""
    wants_setup = arguments[:1] == ["--setup"]
    command = arguments[1:] if wants_setup else arguments
    try:
        problem = _set_up(here, command) if wants_setup else _lacking(here, command)
    except KeyboardInterrupt:
        print("lab.py: interrupted; --setup goes on where it was when called again", file=sys.stderr)
        return 130
    if problem:
        print(f"lab.py: {problem}", file=sys.stderr)
        return 3
    if wants_setup and not command:
        return 0
    become(here, command)
    return 0


def _set_up(here: str, command: list[str]) -> str:
    from hoplab.setup import environment

    problem = environment.make(here)
    if not problem and command[:1] == ["test"]:
        environment.make_for_tests(here)
    return problem


def _lacking(here: str, command: list[str]) -> str:
    fault = stamp.fault(here)
    if not fault:
        return ""
    if command[:1] in (["-h"], ["--help"]):
        print(HELP)
    python = os.path.basename(sys.executable or "python3")
    script = os.path.relpath(os.path.join(here, "lab.py"))
    call = " ".join([python, script, "--setup", *command])
    return f"{fault}. Set it up, as root or with sudo: {call}"


def become(here: str, command: list[str]) -> None:
    """Replace this process by the command line in the environment's Python."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(each for each in SYSTEM_PROGRAMS if each not in path)])
    sys.stdout.flush()
    sys.stderr.flush()
    python = stamp.python(here)
    # -P: a file called click.py in the caller's folder must not become a part of the lab.
    os.execv(python, [python, "-P", "-m", "hoplab.cli", *command])
