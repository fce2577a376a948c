"""Calls the command line as lab.py does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def lab(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; output is captured unless told otherwise."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    command = [sys.executable, "-P", "-m", "hoplab.cli", *arguments]
    return subprocess.run(command, text=True, check=False, timeout=60, **{**given, **options})
