"""A field of the wrong type, in the words that a cluster has for it: those of Go's JSON decoder.

They name the Go type that has the field, the way to it, and the Go type that it should have had, and
are what people search the web for.  The types' names are the definitions' own.
Source: Go's encoding/json (UnmarshalTypeError) and Kubernetes' API types.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

from hoplab.api import openapi
from hoplab.api.openapi import Schema
from hoplab.kube import quantities
from hoplab.kube.problems import Path

_OWN_WORDS = ("IntOrString", "Quantity", "Time", "MicroTime", "FieldsV1", "RawExtension")
"""Types that read themselves, and complain in other ways."""
_LAYOUT = "2006-01-02T15:04:05Z07:00"
"""How Go writes the form of an RFC 3339 time: by a certain moment."""
_TIME_PARTS = (
    *(("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T")),
    *(
        ("15", r"\d\d"),
        (":", ":"),
        ("04", r"\d\d"),
        (":", ":"),
        ("05", r"\d\d(\.\d+)?"),
        ("Z07:00", r"Z|[+-]\d\d:\d\d"),
    ),
)
_BASE64 = frozenset(f"{string.ascii_letters}{string.digits}+/".encode())
_PLAIN = {"string": "string", "boolean": "bool", "number": "float64"}


def unmarshal_error(document: Any, path: Path, kind: str, root: Schema) -> str | None:
    """What the decoder says of the value at a path of a document of this kind; None where only the lab objects."""
    struct, names, schema = kind, [], root
    value = document
    for part in path:
        value = value[part]
        inner = openapi.resolve(schema)
        if isinstance(part, int):
            schema = inner.get("items") or openapi.ANYTHING
            continue
        if part in inner.get("properties", {}):
            struct = _name(schema) or struct
            names.append(part)
        schema = openapi.field(inner, part)
    wanted = _type(schema)
    if wanted is None:
        return _self_read(value, _name(schema))
    field = f"{struct}.{'.'.join(names)}"
    return f"json: cannot unmarshal {_word(value, wanted)} into Go struct field {field} of type {wanted}"


def _self_read(value: Any, name: str) -> str | None:
    """The complaint of a type that reads itself."""
    if name == "Quantity":
        try:
            quantities.parse(value if isinstance(value, str) else json.dumps(value))
        except ValueError as error:
            return str(error)
    elif name == "IntOrString":
        return f"json: cannot unmarshal {_word(value, 'int32')} into Go value of type int32"
    elif name in ("Time", "MicroTime"):
        if not isinstance(value, str):
            return f"json: cannot unmarshal {_word(value, 'string')} into Go value of type string"
        return _time_error(value)
    return None


def _time_error(text: str) -> str:
    """What time.Parse says of a text that is no time."""
    shown, rest = json.dumps(text, ensure_ascii=False), text
    for part, pattern in _TIME_PARTS:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            left = json.dumps(rest, ensure_ascii=False)
            return f'parsing time {shown} as "{_LAYOUT}": cannot parse {left} as "{part}"'
        rest = rest[match.end() :]
    if rest:
        return f"parsing time {shown}: extra text: {json.dumps(rest, ensure_ascii=False)}"
    for start, word, highest in ((5, "month", 12), (11, "hour", 23), (14, "minute", 59), (17, "second", 59)):
        if int(text[start : start + 2]) > highest or (word == "month" and text[5:7] == "00"):
            return f"parsing time {shown}: {word} out of range"
    return f"parsing time {shown}: day out of range"


def illegal_base64(text: str) -> int | None:
    """The place (in bytes) at which Go's decoder gives up a text as no base64, None for one that is.

    Line ends are skipped wherever they stand, and four characters are read at a time (encoding/base64).
    """
    data, at, quantum = text.encode(), 0, 0
    while at < len(data):
        byte, at = data[at], at + 1
        if byte in b"\r\n":
            continue
        if byte in _BASE64:
            quantum = (quantum + 1) % 4
            continue
        if byte != ord("=") or quantum < 2:
            return at - 1
        if quantum == 2:
            while data[at : at + 1] in (b"\r", b"\n"):
                at += 1
            if at == len(data):
                return len(data)
            if data[at] != ord("="):
                return at - 1
            at += 1
        left = data[at:].lstrip(b"\r\n")
        return len(data) - len(left) if left else None
    return len(data) - quantum if quantum else None


def _name(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition(".")[2]


def _type(schema: Schema) -> str | None:
    """The Go type of a schema."""
    reference = str(schema.get("$ref", ""))
    if reference:
        package, _dot, name = reference.rpartition(".")
        return None if name in _OWN_WORDS else f"{package.rpartition('.')[2]}.{name}"
    kind = schema.get("type")
    if kind == "integer":
        return str(schema.get("format") or "int64")
    if kind == "array":
        inner = _type(schema.get("items") or openapi.ANYTHING)
        return f"[]{inner}" if inner else None
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        inner = _type(schema["additionalProperties"])
        return f"map[string]{inner}" if inner else None
    if schema.get("format") == "byte":
        return "[]uint8"
    return _PLAIN.get(str(kind))


def json_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _word(value: Any, wanted: str) -> str:
    """The kind of a JSON value; a number that does not fit is told itself."""
    if json_kind(value) == "number" and wanted.startswith(("int", "float")):
        return f"number {value}"
    return json_kind(value)
