"""Patches of an object: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch.

A strategic merge patch looks like a part of the object.  What a list in it means stands in
the API's definitions: replace the list, or merge it by the items' keys.  Directives say the
rest: `$patch: delete` removes a map or an item, `$patch: replace` takes the patch's value as it
is, `$retainKeys` drops the keys that it does not name, `$deleteFromPrimitiveList/x` removes
values, `$setElementOrder/x` orders a merged list.
Source: the RFCs, apimachinery's pkg/util/strategicpatch/patch.go and the API's
"strategic merge patch" design.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoplab.api import openapi
from hoplab.api.gotypes import json_kind
from hoplab.api.openapi import Schema
from hoplab.api.status import ApiError, bad_request

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_VALUES = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"
MOST_OPERATIONS = 10_000
"""Of a JSON patch, as the real API server limits it."""


def json_patch(document: Mapping[str, Any], patch: Any) -> Any:
    """The document after a list of operations.  Raises ApiError: 400 for no patch, 422 for one that does not fit."""
    import jsonpatch

    if not isinstance(patch, list):
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {json_kind(patch)} into Go value of type jsonpatch.Patch"
        )
    if not all(isinstance(each, Mapping) for each in patch):
        raise bad_request('a JSON patch is a list of operations, such as [{"op":"remove","path":"/spec/x"}]')
    if len(patch) > MOST_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(patch)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    try:
        made: Any = jsonpatch.apply_patch(document, patch)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"the JSON patch can't be read: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, KeyError, TypeError) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", message) from error
    return made


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: maps are merged, null removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge_patch(made.get(key), value)
    return made


def strategic_merge(target: Mapping[str, Any], patch: Any, schema: Schema) -> dict[str, Any]:
    """The target after a strategic merge patch.  Raises ApiError for a patch that makes no sense."""
    if not isinstance(patch, Mapping):
        raise bad_request(f"json: cannot unmarshal {json_kind(patch)} into Go value of type map[string]interface {{}}")
    return _map(target, patch, openapi.resolve(schema))


def _strategies(schema: Schema) -> list[str]:
    """What stands at a field: merge, replace, retainKeys."""
    return str(schema.get("x-kubernetes-patch-strategy", "")).split(",")


def _map(target: Any, patch: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    given = {key: value for key, value in patch.items() if key not in (DIRECTIVE, RETAIN)}
    directive = patch.get(DIRECTIVE)
    if directive == "replace":
        replaced: dict[str, Any] = _without_directives(given)
        return replaced
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type found: {directive}")
    made = dict(target) if isinstance(target, Mapping) else {}
    retained = patch.get(RETAIN)
    if isinstance(retained, list):
        made = {key: value for key, value in made.items() if key in retained}
    for key, value in given.items():
        if key.startswith((DELETE_VALUES, ORDER)):
            continue
        if value is None:
            made.pop(key, None)
            continue
        _field(made, key, value, given, schema)
    for key in given:
        name = key.removeprefix(DELETE_VALUES).removeprefix(ORDER)
        if key.startswith((DELETE_VALUES, ORDER)) and name not in given:
            _field(made, name, [], given, schema)
    return made


def _field(made: dict[str, Any], key: str, value: Any, patch: Mapping[str, Any], schema: Schema) -> None:
    """One field of the patch, into the map that is being made."""
    here = openapi.field(schema, key)
    inner = openapi.resolve(here)
    if isinstance(value, Mapping):
        if value.get(DIRECTIVE) == "delete":
            made.pop(key, None)
        elif "replace" in _strategies(here) or here.get("x-kubernetes-map-type") == "atomic":
            made[key] = _without_directives(value)
        else:
            made[key] = _map(made.get(key), value, inner)
    elif isinstance(value, list) and "merge" in _strategies(here):
        had = made.get(key)
        current = had if isinstance(had, list) else []
        merged = _list(current, value, here, inner)
        deleted = patch.get(DELETE_VALUES + key)
        if isinstance(deleted, list):
            merged = [each for each in merged if each not in deleted]
        order = patch.get(ORDER + key)
        made[key] = _ordered(merged, current, order if isinstance(order, list) else value, here)
    elif isinstance(value, list):
        made[key] = [_without_directives(each) for each in value]
    else:
        made[key] = value


def _list(current: list[Any], patch: list[Any], here: Schema, schema: Schema) -> list[Any]:
    key = here.get("x-kubernetes-patch-merge-key")
    if key is None:
        return current + [each for each in patch if each not in current]
    items = openapi.item(schema)
    if any(isinstance(each, Mapping) and set(each) == {DIRECTIVE} and each[DIRECTIVE] == "replace" for each in patch):
        return [_without_directives(each) for each in patch if set(each) != {DIRECTIVE}]
    made = list(current)
    for each in patch:
        if not isinstance(each, Mapping) or each.get(key) is None:
            raise bad_request(f"map: {each} does not contain declared merge key: {key}")
        places = [n for n, item in enumerate(made) if isinstance(item, Mapping) and item.get(key) == each[key]]
        if each.get(DIRECTIVE) == "delete":
            made = [item for number, item in enumerate(made) if number not in places]
        elif not places:
            made.append(_map({}, each, items))
        else:
            made[places[0]] = _map(made[places[0]], each, items)
    return made


def _ordered(merged: list[Any], before: list[Any], order: list[Any], here: Schema) -> list[Any]:
    """A merged list: items of the patch in the patch's order, between the others, which keep theirs.

    Of two items that both stood in the list before, the one that stood first goes first; a new
    one goes before those that the patch does not name (normalizeElementOrder).
    """
    key = here.get("x-kubernetes-patch-merge-key")

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, Mapping) else item

    wanted, places = [name(each) for each in order], [name(each) for each in before]
    named = sorted((item for item in merged if name(item) in wanted), key=lambda item: wanted.index(name(item)))
    others = [item for item in merged if name(item) not in wanted]
    made = []
    for item in named:
        while others and name(item) in places and places.index(name(others[0])) < places.index(name(item)):
            made.append(others.pop(0))
        made.append(item)
    return made + others


def _without_directives(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {key: each for key, each in value.items() if key not in (DIRECTIVE, RETAIN) and each is not None}
        return {
            key: _without_directives(each) for key, each in plain.items() if not key.startswith((DELETE_VALUES, ORDER))
        }
    if isinstance(value, list):
        return [_without_directives(each) for each in value]
    return value
