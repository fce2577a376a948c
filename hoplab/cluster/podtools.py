"""What the workers of all pods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoplab.cluster.recorder import Recorder
from hoplab.kube.store import Store
from hoplab.net.timers import Timers

if TYPE_CHECKING:
    from hoplab.cluster.handlers import Handlers


@dataclass(frozen=True, slots=True)
class Tools:
    """Where a worker writes, what wakes it, and whom it tells."""

    store: Store
    timers: Timers
    handlers: Callable[[], Handlers]
    """Made when the first probe or hook asks for them."""
    recorder: Recorder
    clock: Callable[[], float]
    changed: Callable[[], None]
    """Called when a worker has news for its kubelet."""
