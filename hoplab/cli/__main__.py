"""`python -m hoplab.cli`: what lab.py becomes."""

from hoplab.cli.main import main

if __name__ == "__main__":
    main()
