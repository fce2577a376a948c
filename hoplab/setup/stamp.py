"""The stamp in .venv: for which folder, Python and requirements it was made, written when it was complete.

An environment whose stamp is not what it should be is half-made, moved, outdated, or
lost its Python by an upgrade of the system.  The requirements stand in it as they
are: comparing texts needs no hash, and this runs before every command.
"""

from __future__ import annotations

import os

FOLDER = ".venv"
NAME = "hoplab-stamp"
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def folder(here: str) -> str:
    """The environment of the project in `here`."""
    return os.path.join(here, FOLDER)


def python(here: str) -> str:
    """The environment's interpreter."""
    return os.path.join(here, FOLDER, "bin", "python")


def path(here: str) -> str:
    """The stamp itself."""
    return os.path.join(here, FOLDER, NAME)


def expected(here: str) -> str:
    """What the stamp must say now."""
    return _head(here) + "".join(_read(os.path.join(here, name)) for name in REQUIREMENTS)


def _head(here: str) -> str:
    return f"folder {here}\npython {os.path.realpath(python(here))}\n"


def _read(file: str) -> str:
    with open(file, encoding="utf-8") as stream:
        return stream.read()


def fault(here: str) -> str:
    """Why the environment can't be used as it is, as a sentence without its full stop; '' when it can."""
    where = folder(here)
    if not os.path.isdir(where):
        return f"the environment {where} is not there yet"
    try:
        found = _read(path(here))
    except (OSError, UnicodeDecodeError):
        return f"the environment {where} is half-made"
    if not os.access(python(here), os.X_OK):
        made_with = found.partition("\npython ")[2].partition("\n")[0]
        return f"the environment {where} needs the Python {made_with}, which is gone or not yours to run"
    if found == expected(here):
        return ""
    if not found.startswith(_head(here)):
        return f"the environment {where} was made for another folder or another Python"
    return f"the environment {where} is older than the requirements"


def only_outdated(here: str) -> bool:
    """Whether it is whole, and only the requirements changed since: then pip can bring it up to date."""
    try:
        return os.access(python(here), os.X_OK) and _read(path(here)).startswith(_head(here))
    except (OSError, UnicodeDecodeError):
        return False
