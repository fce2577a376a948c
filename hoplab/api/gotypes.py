"""A field of the wrong type, in the words that a cluster has for it: those of Go's JSON decoder.

They name the Go type that has the field, the way to it, and the Go type that it should have had, and
are what people search the web for.  The types' names are the definitions' own.
Source: Go's encoding/json (UnmarshalTypeError) and Kubernetes' API types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoplab.api import openapi
from hoplab.api.openapi import Schema
from hoplab.kube.problems import Path

_OWN_WORDS = ("IntOrString", "Quantity", "Time", "MicroTime", "FieldsV1", "RawExtension")
"""Types that read themselves, and complain in other ways."""
_PLAIN = {"string": "string", "boolean": "bool", "number": "float64"}


def unmarshal_error(document: Any, path: Path, kind: str, root: Schema) -> str | None:
    """What the decoder says of the value at a path of a document of this kind; None where the type reads itself."""
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
        return None
    field = f"{struct}.{'.'.join(names)}"
    return f"json: cannot unmarshal {_word(value, wanted)} into Go struct field {field} of type {wanted}"


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


def _word(value: Any, wanted: str) -> str:
    """The kind of a JSON value; a number that does not fit is told itself."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return f"number {value}" if wanted.startswith(("int", "float")) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
