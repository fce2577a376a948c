"""`lab.py wireshark`: opens a run in Wireshark as a run wants to be read; installs profile and extcap for that.

Both belong to the person who will look: called by sudo, that is the one who called it, whose
rights are taken while their files are written (root following a link in somebody's folder
would write anywhere) and in which Wireshark runs.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoplab.cli.endings import say
from hoplab.errors import CannotRunHere, InputError

if TYPE_CHECKING:
    from hoplab.report.json_report import Document


@dataclass(frozen=True, slots=True)
class User:
    """Whose Wireshark it is."""

    uid: int
    gid: int
    home: Path
    name: str
    other: bool
    """Whether that is somebody else than this process, which then is root."""


def user() -> User:
    """The user of this process, or the one who called sudo."""
    uid = os.geteuid()
    sudo = os.environ.get("SUDO_UID", "")
    if uid == 0 and sudo.isdigit() and int(sudo) != 0:
        try:
            entry = pwd.getpwuid(int(sudo))
        except KeyError:
            raise CannotRunHere(f"SUDO_UID is {sudo}, and no user has that number; call without sudo") from None
        return User(entry.pw_uid, entry.pw_gid, Path(entry.pw_dir), entry.pw_name, True)
    return User(uid, os.getegid(), Path(os.environ.get("HOME") or "/"), os.environ.get("USER", ""), False)


@contextmanager
def acting_as(who: User) -> Iterator[None]:
    """Have the rights of that user, and no more, for files."""
    if not who.other:
        yield
        return
    groups = os.getgroups()
    os.setgroups(os.getgrouplist(who.name, who.gid))
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def configuration(who: User, environment: Mapping[str, str]) -> Path:
    """Wireshark's personal configuration folder: its User's Guide, appendix "Files and Folders"."""
    given = "" if who.other else environment.get("XDG_CONFIG_HOME", "")
    found = (Path(given) if given.startswith("/") else who.home / ".config") / "wireshark"
    old = who.home / ".wireshark"
    return old if old.is_dir() and not found.is_dir() else found


@click.command()
@click.argument("run", default="", metavar="[RUN]")
@click.option("--flow", type=click.IntRange(1), help="Show this flow first instead of all that are told.")
@click.option("--all", "every", is_flag=True, help="Show every frame that was seen.")
@click.option("--install-only", is_flag=True, help="Install the profile and the list of running labs; open nothing.")
@click.option("--reset", is_flag=True, help="Replace files of the profile that you changed; yours are kept as *.yours.")
def command(run: str, flow: int | None, every: bool, install_only: bool, reset: bool) -> int:
    """Open a RUN in Wireshark, coloured by place (the last run, unless one is named).

    A RUN is a folder that a run left, its run.json, or its name in captures/.  The profile "hoplab" (columns, colours,
    buttons) is installed for you on the way, and a program by which Wireshark lists the interfaces of running labs.
    """
    from hoplab.report.wireshark import PROFILE, TOLD, profile

    if every and flow:
        raise InputError("--all and --flow: choose one of them")
    document, capture = (None, None) if install_only and not run else _chosen(run)
    places = [place["name"] for place in document["topology"]["places"]] if document else []
    flows = len(document["flows"]) if document else 0
    if flow and flow > flows:
        raise InputError(f"--flow {flow}: this run tells {flows} flow(s)")
    who = user()
    _install(who, profile(places, flows), reset=reset)
    if install_only:
        click.echo(
            f"installed in {configuration(who, os.environ)}; in Wireshark: Edit > Configuration Profiles > {PROFILE}"
        )
        return 0
    assert capture is not None
    shown = "" if every else f'frame.comment contains "flow {flow}:"' if flow else TOLD if flows else ""
    filtered = ["-Y", shown] if shown else []
    arguments = ["-C", PROFILE, "-r", str(capture), *filtered]
    same = f"The same frames in this terminal: {shlex.join(['tshark', *arguments])}"
    program = shutil.which("wireshark")
    if program is None:
        raise CannotRunHere(
            f"no wireshark here. Debian and Ubuntu: sudo apt-get install wireshark; others: wireshark.org. {same}"
        )
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise CannotRunHere(
            "no screen here: neither DISPLAY nor WAYLAND_DISPLAY is set. Over ssh, -X brings one; or copy"
            f" {capture} to where Wireshark is. {same}"
        )
    _become(program, arguments, who)
    return 0


def _chosen(name: str) -> tuple[Document, Path]:
    """A run and its capture.  Raises InputError."""
    from hoplab.cli.runs import DEFAULT_CAPTURES
    from hoplab.report.leaving import FILES
    from hoplab.report.reading import find_run, read_run

    if name:
        path = find_run(name, DEFAULT_CAPTURES)
    else:
        left = sorted(DEFAULT_CAPTURES.glob(f"*/{FILES['json']}"), key=lambda one: one.stat().st_mtime)
        if not left:
            raise InputError(f"no run has left anything in {DEFAULT_CAPTURES}; try: lab.py scenario external-lb")
        path = left[-1]
    capture = path.with_name(FILES["pcapng"])
    if not capture.is_file():
        raise InputError(f"{path.parent}: the run is there, but no {capture.name}; run it again")
    return read_run(path), capture


def _install(who: User, files: Mapping[str, str], *, reset: bool) -> None:
    from hoplab.cli.wireshark_files import EXTCAP, Installed, install, install_program
    from hoplab.report.wireshark import PROFILE

    folder = configuration(who, os.environ)
    try:
        with acting_as(who):
            done: Installed = install(folder / "profiles" / PROFILE, files, reset=reset)
            program = f'#!/bin/sh\nexec {shlex.join([sys.executable, "-P", "-m", "hoplab.cli", "extcap"])} "$@"\n'
            # Wireshark up to 4.0 looks in the one place, later ones in the other.
            for place in (folder / "extcap", who.home / ".local/lib/wireshark/extcap"):
                install_program(place / EXTCAP, program)
    except OSError as error:
        raise CannotRunHere(
            f"{error.filename or folder} can't be written ({error.strerror}): Wireshark's folder should be yours"
        ) from error
    if done.kept:
        say(
            f"note: you changed {', '.join(done.kept)} in {folder / 'profiles' / PROFILE}, so these stay as they are;"
            " --reset takes hoplab's instead"
        )
    for name in done.moved:
        say(f"note: your {name} is kept as {name}.yours")


def _become(program: str, arguments: list[str], who: User) -> None:
    """Replace this process by Wireshark, as that user."""
    environment = dict(os.environ)
    if who.other:
        os.setgroups(os.getgrouplist(who.name, who.gid))
        os.setgid(who.gid)
        os.setuid(who.uid)
        environment |= {"HOME": str(who.home), "USER": who.name, "LOGNAME": who.name}
        environment.pop("XDG_CONFIG_HOME", None)
        runtime = f"/run/user/{who.uid}"
        environment |= {"XDG_RUNTIME_DIR": runtime} if os.path.isdir(runtime) else {}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, [program, *arguments], environment)
