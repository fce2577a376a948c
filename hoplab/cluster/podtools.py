"""What the workers of all pods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hoplab.cluster.handlers import Handlers
from hoplab.cluster.recorder import Recorder
from hoplab.kube.store import Store
from hoplab.net.timers import Timers


@dataclass(frozen=True, slots=True)
class Tools:
    """Where a worker writes, what wakes it, and whom it tells."""

    store: Store
    timers: Timers
    handlers: Handlers
    recorder: Recorder
    clock: Callable[[], float]
    changed: Callable[[], None]
    """Called when a worker has news for its kubelet."""
