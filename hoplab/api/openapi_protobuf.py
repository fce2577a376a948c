"""The OpenAPI v2 document as protobuf: the one form in which kubectl asks for it.

Protocol buffers are tag-length-value: a field's number and wire type in one varint, then
its value.  Only strings, booleans and messages are needed here, so the writer is three
functions; everything below names gnostic's messages and their field numbers.
Source: gnostic's openapiv2/OpenAPIv2.proto and the protocol buffers encoding.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from hoplab.api import openapi_documents

Document = Mapping[str, Any]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(number: int, value: str | bytes) -> bytes:
    """A string or a message, as one field; an empty string is no field."""
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _flag(number: int, value: bool) -> bytes:
    return _varint(number << 3) + b"\1" if value else b""


def _named(number: int, name: str, value: bytes) -> bytes:
    """One entry of a map: gnostic has Named... messages of a name and a value."""
    return _text(number, _text(1, name) + _text(2, value))


def _any(value: Any) -> bytes:
    return _text(2, json.dumps(value))  # JSON is YAML.


def _extensions(number: int, of: Document) -> bytes:
    return b"".join(_named(number, key, _any(of[key])) for key in of if key.startswith("x-"))


def _schema(schema: Document) -> bytes:
    out = bytearray()
    for number, key in ((1, "$ref"), (2, "format"), (4, "description")):
        if schema.get(key):
            out += _text(number, schema[key])
    if "default" in schema:
        out += _text(5, _any(schema["default"]))
    for name in schema.get("required", ()):
        out += _text(19, name)
    if isinstance(schema.get("additionalProperties"), Mapping):
        out += _text(21, _text(1, _schema(schema["additionalProperties"])))
    if "type" in schema:
        out += _text(22, _text(1, schema["type"]))
    if "items" in schema:
        out += _text(23, _text(1, _schema(schema["items"])))
    if "properties" in schema:
        out += _text(25, b"".join(_named(1, name, _schema(each)) for name, each in schema["properties"].items()))
    out += _extensions(31, schema)
    return bytes(out)


def _parameter(parameter: Document) -> bytes:
    query = _text(2, parameter["in"]) + _text(4, parameter["name"]) + _text(6, parameter["type"])
    query += _flag(20, True)
    return _text(1, _text(2, _text(3, query)))


def _operation(operation: Document) -> bytes:
    out = bytearray()
    for each in operation.get("consumes", ()):
        out += _text(7, each)
    for each in operation["parameters"]:
        out += _text(8, _parameter(each))
    answers = (
        _named(1, code, _text(1, _text(1, each["description"]))) for code, each in operation["responses"].items()
    )
    out += _text(9, b"".join(answers))
    return bytes(out) + _extensions(13, operation)


_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


@functools.cache
def document() -> bytes:
    """The lab's document."""
    return encoded(openapi_documents.version_2())


def encoded(document: Document) -> bytes:
    """Any document in its form."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(
        _named(2, path, b"".join(_text(_METHODS[method], _operation(each)) for method, each in item.items()))
        for path, item in document["paths"].items()
    )
    definitions = b"".join(_named(1, name, _schema(each)) for name, each in document["definitions"].items())
    return _text(1, document["swagger"]) + _text(2, info) + _text(8, paths) + _text(9, definitions)
