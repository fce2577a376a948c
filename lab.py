#!/usr/bin/env python3
"""The door of hoplab: finds its environment, or makes it with --setup, and runs the command in it.

    sudo python3 lab.py --setup scenario external-lb     install what is missing, then run
    python3 lab.py doctor                                what this machine has and lacks

Standard library only: nothing is installed yet when this starts.
"""

import os
import sys


def main():  # Without annotations: a Python that is too old must come far enough to say so.
    """Check the Python that runs this, then hand over to hoplab.setup.door."""
    if sys.hexversion < 0x030B0000:
        # Joined by +, since Python 2 has no f-strings.
        sys.stderr.write(
            "lab.py: hoplab needs Python 3.11 or newer; this is "
            + sys.version.split()[0]
            + " ("
            + sys.executable
            + ").\n"
            "Debian 12, Ubuntu 24.04 and newer have it as python3.  Beside an older one, call it by its version:\n"
            "python3.11 lab.py ... (or python3.12, python3.13).\n"
        )
        sys.exit(3)
    # Through a symbolic link, from any folder: the code is where this file really is.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path.insert(0, here)
    from hoplab.setup import door

    sys.exit(door.main(here, sys.argv[1:]))


if __name__ == "__main__":
    main()
