"""Lengths of time as Kubernetes' configurations have them: metav1.Duration, which is Go's ("1m30s", "250ms").

Source: Go's time.ParseDuration, without its sign: no setting here is negative.
"""

from __future__ import annotations

import re

UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|ns|m|s)")


def seconds(text: str) -> float:
    """The seconds of a duration; "0" needs no unit.  Raises ValueError that says what was expected."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'expected a duration like "30s", "1h30m" or "250ms", found {text!r}')
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)
