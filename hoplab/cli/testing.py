"""`lab.py test`: the whole suite, unit and lab tests, by pytest in the environment."""

from __future__ import annotations

import os
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]

EXIT_CODES = {0: 0, 1: 1, 2: 130, 3: 1, 4: 2, 5: 2}
"""pytest's exit code -> ours: 2 is interrupted, 3 an internal error, 4 a wrong call, 5: no test was chosen."""


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def command(arguments: tuple[str, ...]) -> int:
    """Run the test suite, unit and lab tests; arguments go to pytest, paths are relative to the project.

    Lab tests that can't run on this machine are skipped with the reason, and fail where CI=true is set.
    """
    import pytest

    os.chdir(ROOT)
    return EXIT_CODES.get(int(pytest.main(list(arguments))), 1)
