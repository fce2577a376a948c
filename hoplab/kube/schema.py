"""Holds a document against Kubernetes' own field lists: unknown fields, wrong types, missing fields.

The lists are data (schema.json, made by tools/make_schema.py from Kubernetes' OpenAPI
document), so that no field is forgotten or invented here.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from hoplab.errors import meant
from hoplab.kube import clock, quantities
from hoplab.kube.formats import REQUIRED, Finding
from hoplab.kube.problems import Path

UNKNOWN_FIELD = "unknown field"
"""How the message of such a finding begins; the rest of the document can be validated nevertheless."""

_NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


@functools.cache
def _schema() -> Mapping[str, Any]:
    text = (FilePath(__file__).with_name("schema.json")).read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def kinds() -> Mapping[str, str]:
    """'apps/v1/Deployment' -> type name, of every kind that is served."""
    found: Mapping[str, str] = _schema()["kinds"]
    return found


def types() -> Mapping[str, Mapping[str, str]]:
    """Type name -> field -> what it holds, as tools/make_schema.py writes it."""
    found: Mapping[str, Mapping[str, str]] = _schema()["types"]
    return found


Table = Mapping[str, Mapping[str, str]]
"""Type name -> field -> what it holds: str, int, bool, float, dict, any, [what], {what}, @type; `!` for required."""


def check(document: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    """What is wrong with a document of this kind ('v1/Service'), field by field."""
    yield from check_fields(document, kinds()[kind], types())


def check_fields(document: Any, type_name: str, table: Table) -> Iterator[Finding]:
    """What is wrong with any document, held against a type of a table like `types()`."""
    yield from _object(document, type_name, (), table)


def _object(value: Any, type_name: str, path: Path, table: Table) -> Iterator[Finding]:
    if not isinstance(value, Mapping):
        yield path, f"expected an object, found {describe(value)}"
        return
    fields = table[type_name]
    for key, inner in value.items():
        expected = fields.get(key)
        if expected is None:
            yield (*path, key), f"{UNKNOWN_FIELD}{nearest(key, fields)}"
        elif inner is not None:
            yield from _value(inner, expected.rstrip("!"), (*path, key), table)
    for key, expected in fields.items():
        if expected.endswith("!") and value.get(key) is None:
            yield (*path, key), REQUIRED


def _value(value: Any, expected: str, path: Path, table: Table) -> Iterator[Finding]:
    if expected.startswith("@"):
        yield from _object(value, expected[1:], path, table)
    elif expected.startswith("["):
        if not isinstance(value, list):
            yield path, f"expected a list, found {describe(value)}"
            return
        for number, inner in enumerate(value):
            yield from _value(inner, expected[1:-1], (*path, number), table)
    elif expected == "dict" or expected.startswith("{"):
        if not isinstance(value, Mapping):
            yield path, f"expected an object, found {describe(value)}"
        elif expected != "dict":
            yield from _map(value, expected[1:-1], path, table)
    else:
        wanted = _scalar_fault(value, expected)
        if wanted:
            yield path, f"expected {wanted}, found {describe(value)}"


def _map(value: Mapping[str, Any], expected: str, path: Path, table: Table) -> Iterator[Finding]:
    for key, inner in value.items():
        if inner is None and expected == "str":
            continue  # decoded as the empty string
        for place, message in _value(inner, expected, (*path, key), table):
            quote = isinstance(inner, (bool, int, float)) and expected == "str"
            yield place, f"{message}; put it in quotes to have the text" if quote else message


def _scalar_fault(value: Any, expected: str) -> str:
    """What was wanted instead, '' when the value is of the type."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if expected == "str":
        return "" if isinstance(value, str) else "a string"
    if expected == "time":
        return "" if isinstance(value, str) and clock.is_time(value) else "a time like 2017-08-01T12:00:00Z"
    if expected == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if expected == "int":
        return "" if number and -(1 << 63) <= value < 1 << 63 else "a whole number"
    if expected == "float":
        return "" if number or isinstance(value, float) else "a number"
    if expected == "intstr":
        return "" if number or isinstance(value, str) else "a whole number or a string"
    if expected == "quantity":
        return "" if _is_quantity(value) else "a quantity like 100m or 64Mi"
    return ""


def _is_quantity(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    try:
        quantities.parse(value)
    except ValueError:
        return False
    return True


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that was probably meant, '' when none is like it."""
    near = meant(word, known)
    return f"; did you mean {near}?" if near else ""


def describe(value: Any) -> str:
    """A value in a message: its kind and, when it is short, itself."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return f"{_NAMES.get(type(value), 'a value')}: {text if len(text) <= 60 else text[:57] + '...'}"
