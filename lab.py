#!/usr/bin/env python3
"""The door of hoplab: finds its environment, or makes it with --setup, and runs the command in it.

    sudo python3 lab.py --setup scenario external-lb     install what is missing, then run
    python3 lab.py doctor                                what this machine has and lacks

Standard library only: nothing is installed yet when this starts.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "hoplab needs Python 3.11 or newer, this is %d.%d. Debian 12, Ubuntu 24.04 and newer have it as python3."
        % sys.version_info[:2]
    )

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def main() -> None:
    """Set up when asked to, then become `.venv/bin/python -m hoplab.cli`."""
    from hoplab.setup import environment

    arguments = sys.argv[1:]
    wants_setup = arguments[:1] == ["--setup"]
    if wants_setup:
        arguments = arguments[1:]
        problem = environment.make(HERE)
    else:
        problem = environment.missing(HERE)
    if problem:
        print(f"lab.py: {problem}", file=sys.stderr)
        sys.exit(3)
    if wants_setup and not arguments:
        return
    python = environment.python(HERE)
    # The code runs from here whatever the caller's folder is, and the caller's folder stays what it was.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))
    if environment.stdlib_has_distutils(HERE):
        # Mininet imports distutils; setuptools would put its own, slower one in the place of Python 3.11's.
        os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    sys.stdout.flush()
    os.execv(python, [python, "-m", "hoplab.cli", *arguments])


if __name__ == "__main__":
    main()
