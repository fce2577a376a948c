"""`lab.py exec` and `lab.py shell`: programs inside a node, a pod, the client or the balancer of a running lab."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from hoplab.cli.choices import lab_option, namespace_option
from hoplab.cli.endings import say
from hoplab.errors import InputError

if TYPE_CHECKING:
    from hoplab.labs.protocol import Exec

SETTINGS = {"allow_interspersed_args": False}
"""Options stand before the TARGET: whatever follows it is the program's."""


@click.command("exec", context_settings=SETTINGS)
@click.option("-i", "--interactive", is_flag=True, help="Give the program this call's standard input.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", "environment", multiple=True, metavar="NAME=VALUE", help="Set an environment variable.")
@click.option("-w", "--workdir", "directory", default="", help="The directory it starts in [/].")
@namespace_option
@lab_option
@click.argument("target")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    target: str,
    command: tuple[str, ...],
    interactive: bool,
    terminal: bool,
    environment: tuple[str, ...],
    directory: str,
    namespace: str,
    name: str | None,
) -> int:
    """Run COMMAND inside TARGET, as docker exec does: lab.py exec node1 -- iptables -t nat -nL

    The exit code is the program's; 126 and 127 say that it can't be executed or isn't there.
    """
    from hoplab.labs.protocol import Exec

    argv = command[1:] if command[:1] == ("--",) else command
    if not argv:
        raise click.UsageError("Missing argument 'COMMAND...': what is to be run")
    given = dict(_variable(each) for each in environment)
    request = Exec(target, argv, namespace, given, directory, terminal)
    return _run(name, request, interactive=interactive)


def _variable(text: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME alone for the value that it has here."""
    name, equals, value = text.partition("=")
    if not name:
        raise InputError(f"-e {text!r}: expected NAME=VALUE")
    return (name, value) if equals else (name, os.environ.get(name, ""))


@click.command("shell", context_settings=SETTINGS)
@namespace_option
@lab_option
@click.argument("target")
def shell(target: str, namespace: str, name: str | None) -> int:
    """A shell inside TARGET; standard input that is no terminal is read as its script."""
    from hoplab.labs.protocol import Exec

    terminal = os.isatty(0)
    # Bash where there is one; a login would read the host user's profile.
    argv = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash --norc; exec sh")
    prompt = {"PS1": "\\u@\\h:\\w\\$ "}
    return _run(name, Exec(target, argv, namespace, prompt, "/", terminal), interactive=True)


def _run(name: str | None, request: Exec, *, interactive: bool) -> int:
    from hoplab.labs import terminal

    code, why = terminal.run(name, request, interactive=interactive)
    if why:
        say(f"{request.target}: {why}")
    return code
