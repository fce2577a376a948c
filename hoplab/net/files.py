"""Writing a file in the place of another, whole or not at all.

A user namespace's root may replace what the host's root owns, not open it for writing:
so a new file is made beside it and takes its name.
"""

from __future__ import annotations

import os


def write_over(path: str, text: str) -> None:
    """Put a file in the place of another; folders on the way are made.  Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
