"""How a run says what it waits for: a sentence, whenever it begins to wait for something else."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]
"""Takes what is being waited for, in words that follow the run's name ('12 probes from client')."""


def silent(_what: str) -> None:
    """A `Note` that nobody reads."""
