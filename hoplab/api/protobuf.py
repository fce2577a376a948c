"""Kubernetes' protobuf for requests: kubectl's typed commands send their bodies so, whatever else they accept.

A body begins with `k8s` and a zero byte; then an envelope tells apiVersion and kind and carries
the object.  Messages name fields by numbers, and write those that are not optional in any case, so
zeros and empty strings are dropped but where a field makes a difference between zero and nothing.
Answers are always JSON, which every client accepts.
Source: apimachinery's pkg/runtime/serializer/protobuf, the protocol buffers encoding, and the .proto
files of which tools/make_protobuf.py makes the table.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hoplab.api.status import ApiError, bad_request, unsupported_media
from hoplab.kube.clock import timestamp

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
DEEPEST = 50
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_ZERO_MATTERS = frozenset(
    (
        *("replicas", "gracePeriodSeconds", "terminationGracePeriodSeconds", "completions", "parallelism"),
        *("backoffLimit", "revisionHistoryLimit", "ttlSecondsAfterFinished", "tolerationSeconds", "weight"),
        *("automountServiceAccountToken", "enableServiceLinks", "orphanDependents", "blockOwnerDeletion"),
        *("controller", "immutable", "allocateLoadBalancerNodePorts", "maxSurge", "maxUnavailable", "optional"),
        *("runAsNonRoot", "readOnlyRootFilesystem", "allowPrivilegeEscalation", "privileged", "runAsUser"),
    )
)
"""Fields that are pointers in the API's types."""
Value = int | bytes


@functools.cache
def _table() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads(
        Path(__file__).with_name("protobuf.json").read_text(encoding="utf-8")
    )
    return found


def decode(data: bytes) -> Any:
    """The document of a protobuf body.  Raises ApiError: 400 for what is none, 415 for what is not known here."""
    if not data.startswith(MAGIC):
        raise bad_request("the body is no Kubernetes protobuf: it does not begin with k8s and a zero byte")
    envelope = dict(_fields(data[len(MAGIC) :]))
    kind_of, raw = envelope.get(1, b""), envelope.get(2, b"")
    if not isinstance(kind_of, bytes) or not isinstance(raw, bytes) or envelope.get(3):
        raise bad_request("the protobuf envelope can't be read")
    words = dict(_fields(kind_of))
    version, kind = _text(words.get(1, b"")), _text(words.get(2, b""))
    group, _slash, number = version.rpartition("/")
    message = f"k8s.io.api.{group.partition('.')[0] or 'core'}.{number}.{kind}"
    if kind == "DeleteOptions":
        message = f"{_META}.DeleteOptions"
    if kind == "SelfSubjectReview":
        return {"apiVersion": version, "kind": kind}
    if message not in _table():
        raise unsupported_media(f"{kind} of {version} is not read as protobuf here: send application/json")
    return {"apiVersion": version, "kind": kind, **_message(raw, message, 0)}


def _text(value: Value) -> str:
    if not isinstance(value, bytes):
        raise bad_request("the protobuf can't be read: a text was expected")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("the protobuf can't be read: a text is no UTF-8") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise bad_request("the protobuf ends in the middle of a number")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field: a whole number, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise bad_request("the protobuf ends in the middle of a field")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            raise bad_request(f"the protobuf has a field of wire type {tag & 7}, which no object of the API has")


def _blank(value: Value) -> bool:
    """Whether a field that is not known here says nothing."""
    if isinstance(value, int):
        return value == 0
    try:
        return all(_blank(inner) for _number, inner in _fields(value))
    except (ApiError, RecursionError):
        # No message, or one nested without end: bytes that say something.
        return False


def _message(data: bytes, name: str, depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise bad_request(f"the protobuf is nested more than {DEEPEST} deep")
    known = _table()[name]
    made: dict[str, Any] = {}
    for number, value in _fields(data):
        entry = known.get(str(number))
        if entry is None:
            if not _blank(value):
                message = f"field {number} of {name.rpartition('.')[2]} is not read as protobuf here"
                raise unsupported_media(f"{message}: send application/json")
            continue
        field, _space, form = entry.partition(" ")
        if form.startswith("["):
            made.setdefault(field, []).append(_value(value, form[1:-1], depth))
        elif form.startswith("{"):
            pair = dict(_fields(value if isinstance(value, bytes) else b""))
            made.setdefault(field, {})[_text(pair.get(1, b""))] = _value(pair.get(2, b""), form[1:-1], depth)
        elif field == "-":
            made |= _message(value if isinstance(value, bytes) else b"", form[1:], depth + 1)
        else:
            found = _value(value, form, depth)
            if found or (found is not None and field in _ZERO_MATTERS):
                made[field] = found
    return made


def _value(value: Value, form: str, depth: int) -> Any:
    if form in ("int", "bool"):
        number = value if isinstance(value, int) else 0
        signed = number - (1 << 64) if number >= 1 << 63 else number
        return bool(number) if form == "bool" else signed
    if form == "str":
        return _text(value)
    data = value if isinstance(value, bytes) else b""
    if form == "bytes":
        return base64.b64encode(data).decode()
    special = _SPECIAL.get(form.rpartition(".")[2])
    return special(dict(_fields(data))) if special else _message(data, form[1:], depth + 1)


def _time(fields: Mapping[int, Value]) -> str | None:
    seconds = fields.get(1, 0)
    if not isinstance(seconds, int) or not 0 < seconds < 1 << 36:
        return None
    return timestamp(seconds)


def _quantity(fields: Mapping[int, Value]) -> str:
    return _text(fields.get(1, b""))


def _int_or_string(fields: Mapping[int, Value]) -> Any:
    return _text(fields.get(3, b"")) if fields.get(1) else fields.get(2, 0)


def _json(fields: Mapping[int, Value]) -> Any:
    try:
        return json.loads(_text(fields.get(1, b"")) or "null")
    except (ValueError, RecursionError) as error:
        raise bad_request("the protobuf carries JSON that can't be read") from error


_SPECIAL = {
    "Time": _time,
    "MicroTime": _time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "FieldsV1": _json,
    "RawExtension": _json,
}
