"""What a plain word of YAML means to Kubernetes: text, number, true, false or nothing.

kubectl and the API server read YAML with go-yaml 2, which is YAML 1.1 with exceptions:
`y` and `on` are true, 010 is eight, but 12:30 is no base-60 number and a date stays
text.  Source: sigs.k8s.io/yaml, goyaml.v2/resolve.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Scalar = str | int | float | bool | None

_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NO_NUMBERS = frozenset(
    sign + dot + word
    for sign in ("", "+", "-")
    for dot in (".",)
    for word in ("nan", "NaN", "NAN", "inf", "Inf", "INF")
)
_FIRST = frozenset("yYnNtTfFoO~.+-0123456789")
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_LONGEST_INT = 80
"""Digits after which a number is read as a float: far more than 64 bits hold."""

_TAG = "tag:yaml.org,2002:"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
    "timestamp": (str,),
}


def plain(word: str) -> Scalar:
    """The value of an unquoted, untagged scalar.  Raises ValueError for .nan and .inf, which JSON has not."""
    if not word:
        return None
    if word[0] not in _FIRST:
        return word
    if word in _WORDS:
        return _WORDS[word]
    if word in _NO_NUMBERS:
        raise ValueError(f"{word} is no number that JSON, and so Kubernetes, can carry; quote it to have the text")
    if word[0] in "+-.0123456789":
        return _number(word)
    return word


def _number(word: str) -> Scalar:
    digits = word.replace("_", "")
    if len(digits) <= _LONGEST_INT and (found := _INT.match(digits)):
        body = found[1]
        sign = -1 if digits[0] == "-" else 1
        if body[:2].lower() in ("0x", "0b", "0o"):
            return sign * int(body, 0)
        return sign * int(body, 8 if body[0] == "0" else 10)
    if _FLOAT.match(digits):
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{word[:40]} is larger than a number can be")
        return number
    return word


def tagged(tag: str, word: str) -> Scalar:
    """The value of a scalar with an explicit tag.  Raises ValueError for tags no manifest has or that don't fit."""
    if tag in ("!", _TAG + "str"):
        return word
    kind = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if kind not in _KINDS:
        raise ValueError(f"tag {tag[:60]}: manifests have plain values only")
    value = plain(word) if kind != "timestamp" else word
    fits = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind == "bool")
    if not fits:
        raise ValueError(f"cannot decode {word[:60]!r} as a !!{kind}")
    return float(value) if kind == "float" and isinstance(value, int) else value
