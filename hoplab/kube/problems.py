"""What is wrong with a manifest: file, line, field, and what was expected there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hoplab.errors import InputError

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `field` is a path like spec.ports[1].nodePort, '' for the whole document."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class ManifestError(InputError):
    """Manifests that can't be used; `problems` lists all that was found, str() one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            lines.append(f"... and {len(self.problems) - MOST_SHOWN} more problems")
        super().__init__("\n".join(lines))


Path = tuple[str | int, ...]
"""Keys and indexes from a document's root."""


def field_name(path: Path) -> str:
    """spec.ports[1].nodePort; keys that are no plain words in brackets, as the API server writes them."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text
