"""Makes the environment: Debian packages and the .venv.  Standard library only; lab.py uses it before anything else."""
