"""The command line: parses, enters the sandbox where a lab is needed, and turns every ending into an exit code.

0 all verified, 1 something did not hold, 2 the call or an input is wrong, 3 this
machine can't, 130 interrupted.  Nothing heavy is imported before a command needs it:
most of a run's time would be that otherwise.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from hoplab.errors import HoplabError


class Commands(click.Group):
    """A group that names the nearest command for a misspelt one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Click's own, with a hint."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"no command is called {args[0]!r}.{hint} `lab.py --help` lists them.") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show Python tracebacks.")
def cli(debug: bool) -> None:
    """hoplab: see what happens to a packet in a Kubernetes network, hop by hop, on real kernel parts.

    Start with `lab.py scenario external-lb`; `lab.py doctor` tells what this machine has.
    """
    del debug


def _register() -> None:
    from hoplab.cli import rules, scenario, testing

    cli.add_command(scenario.scenario)
    cli.add_command(rules.rules)
    cli.add_command(testing.test)
    try:
        from hoplab.cli import doctor
    except ImportError:
        return
    cli.add_command(doctor.command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit code.  With --debug, unexpected exceptions come through."""
    _register()

    def command() -> int:
        result = cli.main(args=list(arguments), prog_name="lab.py", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0

    return guarded(command)


def guarded(command: Callable[[], int]) -> int:
    """Run something and turn every ending into an exit code and at most one message.

    With --debug, exceptions that nobody expected come through.
    """
    try:
        return command()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
        _say("\n".join(filter(None, (error.format_message(), usage))))
        return 2
    except HoplabError as error:
        _say(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has gone (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _say(f"unexpected {type(error).__name__}: {error}. This is a defect; `lab.py --debug ...` shows where.")
        return 1


def _say(message: str) -> None:
    print(f"lab.py: {message}", file=sys.stderr)
