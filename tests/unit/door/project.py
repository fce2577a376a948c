"""A project in small for tests of the door: lab.py, the set-up code, and requirements that need no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

COMMAND_LINE = """
import sys
print("command line:", *sys.argv[1:])
raise SystemExit(7)
"""


def project(folder: Path) -> Path:
    """A folder with all that the door needs; its command line prints its arguments and ends with 7."""
    (folder / "hoplab" / "cli").mkdir(parents=True)
    shutil.copy(ROOT / "lab.py", folder)
    shutil.copy(ROOT / "hoplab" / "__init__.py", folder / "hoplab")
    shutil.copytree(ROOT / "hoplab" / "setup", folder / "hoplab" / "setup")
    (folder / "hoplab" / "cli" / "__init__.py").write_text("")
    (folder / "hoplab" / "cli" / "__main__.py").write_text(COMMAND_LINE)
    (folder / "requirements.txt").write_text("")
    (folder / "requirements-dev.txt").write_text("-r requirements.txt\n")
    return folder


def call(script: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run lab.py as a user does."""
    command = [sys.executable, str(script), *arguments]
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SUDO_UID")}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=clean, timeout=120)
