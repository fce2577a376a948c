"""Things to do later, in a loop: one kernel timer that wakes it for whichever comes first.

The timer is a descriptor, so that it works in a loop that is itself registered in another
one, where nobody would know how long to wait.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hoplab.net import kernel
from hoplab.net.loop import Loop


@dataclass(order=True, slots=True)
class Timer:
    """One thing to do later; `cancel` it when it need not be done any more."""

    when: float
    _number: int
    action: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Do not do it."""
        self.action = None


class Timers:
    """Calls back in the loop's own thread; times are seconds of the monotonic clock."""

    def __init__(self, loop: Loop) -> None:
        self._fd = kernel.timerfd()
        self._heap: list[Timer] = []
        self._numbers = itertools.count()
        loop.register(self._fd, self._ring)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do something once, so many seconds from now."""
        timer = Timer(time.monotonic() + max(0.0, seconds), next(self._numbers), action)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._arm()
        return timer

    def _arm(self) -> None:
        while self._heap and self._heap[0].action is None:
            heapq.heappop(self._heap)
        kernel.arm_timerfd(self._fd, self._heap[0].when - time.monotonic() if self._heap else None)

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 8)
        now = time.monotonic()
        while self._heap and self._heap[0].when <= now:
            timer = heapq.heappop(self._heap)
            if timer.action is not None:
                timer.action()
        self._arm()
