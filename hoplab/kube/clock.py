"""Times as the API writes them: RFC 3339, whole seconds, UTC (metav1.Time), and with microseconds where it does so.

What time it is, others say: everything here works on seconds since 1970.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)


@functools.lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamp(now: float) -> str:
    """Seconds since 1970 as metav1.Time."""
    return _second(int(now))


def micro_timestamp(now: float) -> str:
    """Seconds since 1970 as metav1.MicroTime (Leases, eventTime)."""
    return f"{_second(int(now))[:-1]}.{int(now % 1 * 1e6):06d}Z"


def is_time(text: str) -> bool:
    """Whether a text is an RFC 3339 time, with or without parts of a second."""
    try:
        return bool(_RFC_3339.match(text)) and datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def seconds(text: str | None) -> float:
    """Seconds since 1970 of an RFC 3339 time; 0 for none or something else."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return 0.0
