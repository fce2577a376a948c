"""Makes the environment: Debian packages, programs unpacked beside them, and the .venv with its Python packages.

Standard library only: lab.py uses it before anything else, when nothing is installed yet.  `door` decides what is
missing and hands over to the command, `packages`, `programs`, `environment` and `browser` each make a part.
"""
