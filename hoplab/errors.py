"""The errors that a user is meant to read, and the exit code each of them means.

Everything that can go wrong for a reason outside the code is one of these; the
command line prints the message alone.  Any other exception is a defect.
"""

from __future__ import annotations


class HoplabError(Exception):
    """Base of all errors with a message for the user; `exit_code` is what the command ends with."""

    exit_code = 1


class InputError(HoplabError):
    """The input or the call is wrong: the message names file, line and field, or the argument."""

    exit_code = 2


class CannotRunHere(HoplabError):
    """This machine lacks something: the message names it and how to get it."""

    exit_code = 3
