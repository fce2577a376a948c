"""Waiting, in tests, for what no event tells: a condition, looked at again and again until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
AGAIN_S = 0.005
"""The processors are for those that are waited for."""


def until(condition: Callable[[], Found], what: str, deadline_s: float = 10.0) -> Found:
    """What the condition gives as soon as it is true; a test that waits in vain fails."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline_s:g} s for {what}, in vain"
        time.sleep(AGAIN_S)
    return found
