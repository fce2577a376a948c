"""Amounts as Kubernetes writes them: 100m, 64Mi, 1.5, 2e3; which is more, and is a text one at all.

A suffix is a power of ten (m, k, M, ...) or of two (Ki, Mi, ...), or an exponent.
Source: apimachinery's pkg/api/resource/{quantity,suffix}.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

SAY_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SAY_NUMBER = "unable to parse numeric part of quantity"
SAY_SUFFIX = "unable to parse quantity's suffix"
LONGEST = 200
"""Characters of one: more are no number that anybody means, and slow to read."""
_PARTS = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)\Z")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)\Z")
_EXPONENT = re.compile(r"[eE]([-+]?\d{1,4})\Z")
_TENS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_TWOS = {f"{letter}i": 10 * power for power, letter in enumerate("KMGTPE", 1)}


def parse(given: str | int | float) -> Fraction:
    """The amount.  Raises ValueError in the API server's words."""
    from fractions import Fraction  # Few manifests have an amount; a run without one need not wait for this.

    parts = _PARTS.match(str(given)[: LONGEST + 1])
    if parts is None or len(parts[0]) > LONGEST:
        raise ValueError(SAY_FORMAT)
    number, suffix = parts[1], parts[2]
    exponent = _EXPONENT.match(suffix)
    if exponent is None and suffix not in _TENS and suffix not in _TWOS:
        raise ValueError(SAY_SUFFIX)
    if not _NUMBER.match(number):
        raise ValueError(SAY_NUMBER)
    if suffix in _TWOS:
        return Fraction(number) * (1 << _TWOS[suffix])
    power = int(exponent[1]) if exponent else _TENS[suffix]
    ten = Fraction(10 ** abs(power))
    return Fraction(number) * ten if power >= 0 else Fraction(number) / ten
