"""Sets of fields of an object, as server-side apply owns them, and their written form, FieldsV1.

A field is named by the way to it: `f:spec`, `f:replicas` for fields of maps, `k:{"name":"web"}`
for an item of a list whose items are told apart by keys, `v:"x"` for a value of a set.  A leaf
is what is owned as a whole: a plain value, an atomic map or list, an item as such, an empty map.
Source: structured-merge-diff's fieldpath (serialize-pe.go) and the API's "server-side apply".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hoplab.api import openapi
from hoplab.api.openapi import Schema

Path = tuple[str, ...]
ITEM = object()
"""The value of an item as such: equal to itself only, so never in conflict."""
_KEY_DEFAULTS = {"protocol": "TCP"}
"""A list's key that may be missing stands for its default."""


def leaves(value: Any, schema: Schema, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf and its value."""
    inner = openapi.resolve(schema)
    if isinstance(value, Mapping) and value and not atomic(schema):
        for key, each in value.items():
            yield from leaves(each, openapi.field(inner, key), (*path, f"f:{key}"))
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") == "map":
        for each in value:
            place = (*path, item_key(each, schema))
            yield place, ITEM
            if isinstance(each, Mapping):
                yield from leaves(each, openapi.item(inner), place)
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") == "set":
        for each in value:
            yield (*path, f"v:{_json(each)}"), ITEM
    elif path:
        yield path, value


def atomic(schema: Schema) -> bool:
    """Whether a map is owned as a whole; the word may stand at the field or at its type."""
    return "atomic" in (schema.get("x-kubernetes-map-type"), openapi.resolve(schema).get("x-kubernetes-map-type"))


def item_key(item: Any, schema: Schema) -> str:
    """k:{"port":80,"protocol":"TCP"}"""
    names = schema.get("x-kubernetes-list-map-keys") or ()
    values = item if isinstance(item, Mapping) else {}
    return f"k:{_json({name: values.get(name, _KEY_DEFAULTS.get(name)) for name in names})}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1: nested maps; a field that is in the set and has fields below has '.' as well."""
    root: dict[str, Any] = {}
    members = set(paths)
    for path in sorted(members):
        here = root
        for number, part in enumerate(path):
            if part not in here:
                here[part] = {}
            here = here[part]
            if path[: number + 1] in members and number + 1 < len(path):
                here.setdefault(".", {})
    return root


def decode(fields: Any) -> frozenset[Path]:
    """The set of a FieldsV1; what is no such thing is empty."""
    return frozenset(_decoded(fields, ())) if isinstance(fields, Mapping) else frozenset()


def _decoded(fields: Mapping[str, Any], path: Path) -> Iterator[Path]:
    if not fields and path:
        yield path
    for part, inner in fields.items():
        if part == ".":
            yield path
        elif isinstance(inner, Mapping):
            yield from _decoded(inner, (*path, part))


def shown(path: Path) -> str:
    """.spec.containers[name="web"].image, as a conflict names it."""
    text = ""
    for part in path:
        kind, _colon, rest = part.partition(":")
        if kind == "k":
            keys = json.loads(rest)
            text += f"[{','.join(f'{name}={_json(value)}' for name, value in keys.items())}]"
        elif kind == "v":
            text += f"[={rest}]"
        else:
            text += f".{rest}"
    return text


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """The live value with the applied one laid over it: maps and keyed lists by field, anything else as a whole."""
    inner = openapi.resolve(schema)
    if isinstance(applied, Mapping) and isinstance(live, Mapping) and not atomic(schema):
        made = dict(live)
        for key, value in applied.items():
            made[key] = merge(live[key], value, openapi.field(inner, key)) if key in live else value
        return made
    if isinstance(applied, list) and isinstance(live, list):
        kind = schema.get("x-kubernetes-list-type")
        if kind == "set":
            return [*live, *(each for each in applied if each not in live)]
        if kind == "map":
            found = {item_key(each, schema): each for each in live}
            for each in applied:
                key = item_key(each, schema)
                found[key] = merge(found[key], each, openapi.item(inner)) if key in found else each
            return list(found.values())
    return applied


def without(value: Any, path: Path, schema: Schema) -> Any:
    """The value without one field; maps and lists that become empty by it go too."""
    inner = openapi.resolve(schema)
    part, rest = path[0], path[1:]
    kind, _colon, name = part.partition(":")
    if kind == "f" and isinstance(value, Mapping) and name in value:
        made = dict(value)
        below = without(made[name], rest, openapi.field(inner, name)) if rest else None
        if below in (None, {}, []):
            del made[name]
        else:
            made[name] = below
        return made
    if kind in ("k", "v") and isinstance(value, list):
        kept = []
        for each in value:
            same = item_key(each, schema) == part if kind == "k" else f"v:{_json(each)}" == part
            if same and rest:
                kept.append(without(each, rest, openapi.item(inner)))
            elif not same:
                kept.append(each)
        return kept
    return value
