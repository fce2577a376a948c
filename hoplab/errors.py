"""The errors that a user is meant to read, and the exit code each of them means.

Everything that can go wrong for a reason outside the code is one of these; the
command line prints the message alone.  Any other exception is a defect.
"""

from __future__ import annotations

from collections.abc import Iterable


class HoplabError(Exception):
    """Base of all errors with a message for the user; `exit_code` is what the command ends with."""

    exit_code = 1


class InputError(HoplabError):
    """The input or the call is wrong: the message names file, line and field, or the argument."""

    exit_code = 2


class CannotRunHere(HoplabError):
    """This machine lacks something: the message names it and how to get it."""

    exit_code = 3


def meant(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The known word that was probably meant, '' when none is like it; `alike`: from 0, anything, to 1, the same."""
    import difflib  # Only a wrong word needs it, and it takes its time to import.

    return next(iter(difflib.get_close_matches(word, known, 1, alike)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean NAME?' for a message about a name that nothing has, '' when none is like it."""
    near = meant(name, known, 0.5)
    return f" Did you mean {near}?" if near else ""
