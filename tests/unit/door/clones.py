"""Small clones of the project: door, set-up and requirements, with an environment that only looks like one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hoplab.setup import stamp

ROOT = Path(__file__).resolve().parents[3]
ECHO = '#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n'


def program(path: Path, script: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def clone(folder: Path) -> Path:
    """A fresh clone, as far as the door looks at it."""
    shutil.copytree(ROOT / "hoplab" / "setup", folder / "hoplab" / "setup", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("lab.py", "hoplab/__init__.py", *stamp.REQUIREMENTS):
        shutil.copy(ROOT / name, folder / name)
    return folder


def furnish(here: Path, python: str = ECHO) -> None:
    """Give a clone a complete environment, whose Python is this script."""
    program(here / ".venv" / "bin" / "python", python)
    Path(stamp.path(str(here))).write_text(stamp.expected(str(here)))


def lab(
    here: Path, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a clone's lab.py."""
    command = [sys.executable, str(here / "lab.py"), *arguments]
    return subprocess.run(command, cwd=cwd or here, env=env, capture_output=True, text=True, check=False)
