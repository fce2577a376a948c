"""`lab.py test`: the whole suite, unit and lab tests, by pytest in the environment.

Most of a lab test is waiting for processes and for the kernel, so a suite of them goes
faster in several workers (pytest-xdist): three for two cores, since one of them mostly
waits.  Labs never meet, since each is in namespaces of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]

EXIT_CODES = {0: 0, 1: 1, 2: 130, 3: 1, 4: 2, 5: 2}
"""pytest's exit code -> ours: 2 is interrupted, 3 an internal error, 4 a wrong call, 5: no test was chosen."""

OWN_CHOICE = ("-n", "--numprocesses", "--dist", "--pdb", "--trace", "-s", "--capture", "--collect-only", "--co")
"""pytest's options that settle how many workers there are, or that none but one process can serve."""


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def command(arguments: tuple[str, ...]) -> int:
    """Run the test suite, unit and lab tests; arguments go to pytest, paths are relative to the project.

    The suite, or a folder of it, runs in three workers for two cores; files and single tests run one after the other,
    and so does all with -n0.  Lab tests that can't run on this machine are skipped with the reason, and fail where
    CI=true is set.
    """
    import pytest

    os.chdir(ROOT)
    return EXIT_CODES.get(int(pytest.main([*workers(arguments, len(os.sched_getaffinity(0))), *arguments])), 1)


def workers(arguments: Sequence[str], cores: int) -> list[str]:
    """pytest-xdist's options for a call with these arguments; none where one process does (pure).

    `worksteal` gives each worker a run of neighbouring tests, so that those of a module, which may share a lab, mostly
    stay together, and lets one that is done take over half of what another still has before it.
    """
    chosen = any(each.startswith(OWN_CHOICE) or "no:xdist" in each for each in arguments)
    files = any(".py" in each for each in arguments if not each.startswith("-"))
    if cores < 2 or chosen or files:
        return []
    return ["-n", str(cores * 3 // 2), "--dist", "worksteal"]
