"""Times as `kubectl get` shows them: how long ago, in one or two units.

The larger of two units is followed by the next smaller one only while it is small itself.
Source: apimachinery's pkg/util/duration/duration.go (HumanDuration).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any


def parsed_time(text: Any) -> datetime | None:
    """A time of the API, None for what is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def age(text: Any, now: datetime) -> str:
    """How long ago a time is."""
    moment = parsed_time(text)
    return "<unknown>" if moment is None else duration((now - moment).total_seconds())


def duration(seconds: float) -> str:
    """HumanDuration: 5s, 2m10s, 3h, 4d2h, 2y10d: two units while the larger is small."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    years = days // 365
    if hours < 24 * 365 * 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"
