"""How much the API takes from its clients: the bounds that keep a lab's memory and time its own."""

from __future__ import annotations

import resource
from dataclasses import dataclass

BODY_BYTES = 3 << 20
"""Bytes of a body, as the real API server limits it."""
FREE_DESCRIPTORS = 256
"""Left to the rest of the lab's process by the connections of the API."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, numbers at a time."""

    idle: float = 30.0
    """A connection that has no request under way, or only the beginning of one, is closed after this time."""
    handshake: float = 10.0
    body: float = 30.0
    """For the whole body of a request."""
    lingering: float = 1.0
    """For the rest of a body that was refused: thrown away that long, so that the client reads why."""
    goodbye: float = 0.5
    """For requests that are under way when the server ends."""
    connections: int = 1024
    """More are closed unheard."""
    lasting: int = 512
    """Watches, followed logs, commands and forwarded ports."""
    threads: int = 128
    """For what blocks: commands that are waited for, logs that are read."""

    def connections_here(self) -> int:
        """As many connections as this process has descriptors for."""
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(16, min(self.connections, soft - FREE_DESCRIPTORS))
