"""Words of nginx.conf that every nginx of the lab needs, the controller's and the pods'."""

from __future__ import annotations

SCRATCH = "/tmp/nginx"
"""Folder for nginx's own files: its process id, requests and answers that are larger than a buffer."""


def quoted(text: str) -> str:
    """A word of nginx.conf with anything in it; variables in it are still replaced where nginx does so."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ") + '"'


def temporary_paths(scratch: str) -> list[str]:
    """Directives that keep nginx from writing anywhere else than into one folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return [f"{kind}_temp_path {scratch}/{kind};" for kind in kinds]
