"""The command line: finds the command, runs it, and turns every ending into an exit code.

0 all verified, 1 something did not hold, 2 the call or an input is wrong, 3 this
machine can't, 130 interrupted.  A command's module is imported when that command is
asked for, and nothing heavy before: most of a run's time would be that otherwise.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import click

import hoplab
from hoplab.cli.endings import end_by_signal, guarded
from hoplab.errors import did_you_mean

COMMANDS: Mapping[str, str] = {
    "scenario": "hoplab.cli.scenario",
    "check": "hoplab.cli.check",
    "diff": "hoplab.cli.diff",
    "rules": "hoplab.cli.rules",
    "up": "hoplab.cli.life:up",
    "ps": "hoplab.cli.life:ps",
    "down": "hoplab.cli.life:down",
    "kubectl": "hoplab.cli.kube:kubectl",
    "kubeconfig": "hoplab.cli.kube:kubeconfig",
    "exec": "hoplab.cli.inside:execute",
    "shell": "hoplab.cli.inside:shell",
    "trace": "hoplab.cli.looking:trace",
    "capture": "hoplab.cli.looking:capture",
    "wireshark": "hoplab.cli.wireshark",
    "extcap": "hoplab.cli.extcap",
    "addons": "hoplab.cli.addons:addons",
    "doctor": "hoplab.cli.doctor",
    "bench": "hoplab.cli.bench",
    "test": "hoplab.cli.testing",
}
"""Command -> the module whose `command`, or what stands behind the colon, it is; in the order of the help."""

PASSING_ON = ("test", "exec", "shell", "kubectl")
"""Commands whose arguments are another program's: nothing behind their name is ours."""

DEBUG = "--debug"


class Commands(click.Group):
    """A group that imports a command when it is asked for, and names the nearest one for a misspelt name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name or "command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, with a hint."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"no command is called {args[0]!r}.{hint} `lab.py --help` lists them.")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all verified, 1 something did not hold, 2 the call or an input is wrong, 3 this machine"
    " can't run it, 130 interrupted.",
)
@click.version_option(hoplab.__version__, prog_name="hoplab", message="%(prog)s %(version)s")
@click.option(DEBUG, is_flag=True, help="Show Python's traceback of an error (it may stand behind the command, too).")
def cli(debug: bool) -> None:
    """hoplab: see what happens to a packet in a Kubernetes network, hop by hop.

    Each run builds a small cluster out of the kernel's own parts, in namespaces that
    the host never notices, sends packets through it, and proves from what was seen on
    every interface who forwarded them, which rule rewrote them, and how the answer
    found its way back.

    \b
    lab.py --setup                 install what is missing (once, as root)
    lab.py doctor                  what this machine has and lacks
    lab.py scenario external-lb    the first thing to try
    """
    del debug


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit."""
    _fill_standard_streams()
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit code.  With --debug, exceptions come through."""
    own, debug = take_debug(arguments)

    def command() -> int:
        # In here, because what a signal raises has to be met by `guarded`.
        end_by_signal()
        result = cli.main(args=own, prog_name="lab.py", standalone_mode=False, obj=debug)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0

    return guarded(command, debug=debug)


def take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without --debug wherever it is ours, and whether it was there (pure)."""
    end = len(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--" or argument in PASSING_ON:
            end = place
            break
    own = [argument for argument in arguments[:end] if argument != DEBUG]
    return [*own, *arguments[end:]], len(own) < end


def _fill_standard_streams() -> None:
    """Give closed standard descriptors (`>&-`) to /dev/null, before something else gets their numbers."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
