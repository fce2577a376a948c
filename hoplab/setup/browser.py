"""What only the tests of pages need: a browser, and the packages that drive it.  `lab.py --setup test` brings them.

They are half a gigabyte, so nobody who runs a lab is asked for them.  Without them the
browser tests are skipped with the reason, and fail where CI=true is set.
"""

from __future__ import annotations

import os
import shutil

from hoplab.setup import packages, stamp

REQUIREMENTS = "requirements-browser.txt"
STAMP = "hoplab-browser-stamp"
PROGRAMS = ("chromium", "google-chrome", "chromium-browser")
"""Debian's name, the one of Google's own package (as on GitHub's runners), and the one of other systems."""
PURPOSE = "the browser in which tests open the pages of runs"


def program() -> str:
    """Where a browser is, '' when there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), "")


def lacking(here: str) -> str:
    """Why pages can't be tested on this machine, '' when they can."""
    if not program():
        return f"no browser is installed ({', '.join(PROGRAMS)})"
    try:
        with open(os.path.join(stamp.folder(here), STAMP), encoding="utf-8") as made:
            good = made.read() == _requirements(here)
    except OSError:
        good = False
    return "" if good else f"the packages of {REQUIREMENTS} are not installed"


def make(here: str, say: packages.Say) -> str:
    """Install what is missing; the problem that remains, '' when all is there."""
    problem = "" if program() else packages.install(["chromium"], {"chromium": PURPOSE}, say)
    return problem or _make_packages(here, say)


def _make_packages(here: str, say: packages.Say) -> str:
    if not lacking(here):
        return ""
    say(f"installing the Python packages of {REQUIREMENTS}")
    command = [stamp.python(here), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    problem = packages.run([*command, "-r", os.path.join(here, REQUIREMENTS)])
    if problem:
        return problem
    with open(os.path.join(stamp.folder(here), STAMP), "w", encoding="utf-8") as made:
        made.write(_requirements(here))
    return ""


def _requirements(here: str) -> str:
    with open(os.path.join(here, REQUIREMENTS), encoding="utf-8") as file:
        return file.read()
