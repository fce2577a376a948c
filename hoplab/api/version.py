"""Which Kubernetes the API says it is: the one whose objects, tables and messages it follows."""

from __future__ import annotations

import platform

MAJOR, MINOR = "1", "33"
GIT_VERSION = f"v{MAJOR}.{MINOR}.0+hoplab"


def version() -> dict[str, str]:
    """The document of /version."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": f"python {platform.python_version()}",
        "platform": f"linux/{platform.machine()}",
    }
