"""How a command ends: every exception and signal as an exit code and at most one message.

What a user can do something about is told in its own words.  What nobody expected is
a defect: one line that says so, and the traceback when --debug asks for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import click

from hoplab.errors import HoplabError

FAILED, WRONG_CALL, INTERRUPTED = 1, 2, 130
ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def say(message: str) -> None:
    """One message for the user, on standard error; names in it may come from anywhere, and act on no terminal."""
    from hoplab.report.visible import visible

    text = "\n".join(map(visible, message.split("\n")))
    print(f"lab.py: {text}", file=sys.stderr, flush=True)


def end_by_signal() -> None:
    """Have a request to end (SIGTERM, a closed terminal) end a command as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup the terminal's end is none of ours.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def of_sandbox(code: int) -> int:
    """The exit code of a command from that of its sandbox, whose 128 + N means: ended by signal N."""
    if code <= 128:
        return code
    number = code - 128
    if number in ENDING_SIGNALS:
        return INTERRUPTED
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    more = " (is there too little memory? `lab.py doctor` tells)" if number == signal.SIGKILL else ""
    say(f"the lab was ended from outside by {name}{more}")
    return FAILED


def guarded(command: Callable[[], int], *, debug: bool = False) -> int:
    """Run something and turn every ending into an exit code and at most one message.

    With `debug`, exceptions that carry no message for users come through.
    """
    try:
        return command()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_CALL
    except click.ClickException as error:
        say(_usage(error))
        return WRONG_CALL
    except HoplabError as error:
        if debug:
            raise
        say(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        return _interrupted(error)
    except BrokenPipeError:
        # The reader has gone (`| head`): nobody is left to tell, and Python must not try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            # Up to 3.11, Python wraps what comes out of a __set_name__, a dataclass' fields among them.
            return _interrupted(error.__cause__)
        if debug:
            raise
        say(_unexpected(error))
        return FAILED


def _interrupted(error: BaseException) -> int:
    # Where text was being executed (a dataclass' methods, at an import), Python has noted to end itself by SIGINT,
    # whatever becomes of the exception (run_eval_code_obj in Python/pythonrun.c); the next text takes that back.
    exec("")
    say(" ".join(["interrupted", *(each for each in error.args if isinstance(each, str))]))
    return INTERRUPTED


def _usage(error: click.ClickException) -> str:
    lines = [error.format_message()]
    if isinstance(error, click.NoSuchOption) and error.option_name == "--setup":
        lines.append("--setup comes first: lab.py --setup COMMAND ...")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        lines.append(f"{error.ctx.get_usage()}\n`{error.ctx.command_path} --help` tells more.")
    return "\n".join(lines)


def _unexpected(error: Exception) -> str:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if type(error).__module__.startswith("hoplab."):
        # The lab's own errors name the step, the place and the kernel's words: they only come without an exit code.
        return f"{error}"
    if isinstance(error, OSError):
        return f"the system refused something: {what}. `lab.py doctor` tells what this machine lacks, --debug where."
    return f"unexpected {what}. This is a defect; run again with --debug to see where."
