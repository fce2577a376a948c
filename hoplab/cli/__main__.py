"""`python -m hoplab.cli`: what lab.py becomes."""

import sys

if __name__ == "__main__":
    try:
        from hoplab.cli.main import main

        main()
    except KeyboardInterrupt:
        # It came while what takes it (hoplab.cli.endings, which has the reason of the exec) was still being imported.
        exec("")
        sys.stderr.write("lab.py: interrupted\n")
        sys.exit(130)
