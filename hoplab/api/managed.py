"""Who owns which field: server-side apply, its conflicts, and metadata.managedFields.

A manager that *applies* says what it wants and owns just that: fields that it no longer names
go, unless somebody else owns them too.  A manager that *updates* owns what it changed.  To
apply another value to a field that somebody else owns is a conflict, which the manager may
force.  Controllers of the lab write through the store and own nothing.
Source: the API's "server-side apply", structured-merge-diff's merge/update.go and
apimachinery's managedfields (conflict texts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hoplab.api import fieldsets
from hoplab.api.fieldsets import Path
from hoplab.api.openapi import Schema
from hoplab.api.status import ApiError

_EXEMPT: tuple[Path, ...] = (
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            *("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"),
            *("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"),
        )
    ),
)
"""Nobody owns what names the object and what the API itself writes."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes, and how."""

    name: str
    operation: Literal["Apply", "Update"]
    version: str
    """apiVersion in which the fields are named."""
    subresource: str = ""

    def told(self) -> str:
        """As a conflict names it."""
        part = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.name}"{part} using {self.version}'


@dataclass(frozen=True, slots=True)
class Entry:
    """One manager's fields, since when."""

    manager: Manager
    time: str
    fields: frozenset[Path]


def entries(document: Mapping[str, Any] | None) -> list[Entry]:
    """The managers of an object; entries that can't be read are left out."""
    found = []
    for each in ((document or {}).get("metadata") or {}).get("managedFields") or ():
        if isinstance(each, Mapping) and each.get("operation") in ("Apply", "Update"):
            manager = Manager(
                str(each.get("manager", "")),
                each["operation"],
                str(each.get("apiVersion", "")),
                str(each.get("subresource", "")),
            )
            found.append(Entry(manager, str(each.get("time", "")), fieldsets.decode(each.get("fieldsV1"))))
    return found


def _written(found: Sequence[Entry]) -> list[dict[str, Any]]:
    def order(entry: Entry) -> tuple[str, str, str]:
        return entry.manager.operation, entry.time, entry.manager.name

    made = []
    for each in sorted((each for each in found if each.fields), key=order):
        one: dict[str, Any] = {
            "apiVersion": each.manager.version,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.encode(each.fields),
            "manager": each.manager.name,
            "operation": each.manager.operation,
        }
        if each.manager.subresource:
            one["subresource"] = each.manager.subresource
        made.append({**one, "time": each.time})
    return made


def _with(document: Mapping[str, Any], found: Sequence[Entry]) -> dict[str, Any]:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    listed = _written(found)
    return {**document, "metadata": {**metadata, "managedFields": listed} if listed else metadata}


def _owned(document: Mapping[str, Any], schema: Schema) -> dict[Path, Any]:
    found = fieldsets.leaves(document, schema)
    return {path: value for path, value in found if path[:1] not in _EXEMPT and path[:2] not in _EXEMPT}


def updated(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], manager: Manager, now: str, schema: Schema
) -> dict[str, Any]:
    """`after` with the managers that follow from a plain write of `before` -> `after`."""
    old = _owned(before, schema) if before is not None else {}
    new = _owned(after, schema)
    changed = frozenset(path for path, value in new.items() if path not in old or old[path] != value)
    lost = frozenset(path for path in old if path not in new)
    given = after["metadata"].get("managedFields")
    found = entries(before if given is None else after)
    others = [
        replace(each, fields=each.fields - changed - lost) if changed or lost else each
        for each in found
        if each.manager != manager
    ]
    mine = next((each for each in found if each.manager == manager), Entry(manager, now, frozenset()))
    fields = (mine.fields | changed) - lost
    if fields != mine.fields or changed:
        mine = Entry(manager, now, fields)
    return _with(after, [*others, mine])


def applied(
    live: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    manager: Manager,
    now: str,
    schema: Schema,
    *,
    force: bool,
) -> dict[str, Any]:
    """The object after `config` was applied; the live one itself where that changes nothing.  Raises ApiError (409)."""
    wanted = _owned(config, schema)
    fields = frozenset(wanted)
    if live is None:
        return _with(config, [Entry(manager, now, fields)])
    found = entries(live)
    others = [each for each in found if each.manager != manager]
    present = dict(fieldsets.leaves(live, schema))
    conflicts = [
        (each, path)
        for each in others
        for path in sorted(each.fields & fields)
        if path in present and present[path] != wanted[path]
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    forced = frozenset(path for _entry, path in conflicts)
    others = [replace(each, fields=each.fields - forced) for each in others]
    merged = fieldsets.merge(live, config, schema)
    mine = next((each for each in found if each.manager == manager), None)
    held = frozenset(path for each in others for path in each.fields)
    # An item goes as a whole, before its fields: without its keys it could not be found any more.
    for path in sorted((mine.fields if mine else frozenset()) - fields, key=len):
        if not any(other[: len(path)] == path for other in held | fields):
            merged = fieldsets.without(merged, path, schema)
    if mine is not None and mine.fields == fields and not forced and merged == live:
        return dict(live)
    return _with(merged, [*others, Entry(manager, now, fields)])


def _conflict(conflicts: Sequence[tuple[Entry, Path]]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {entry.manager.told()}",
            "field": fieldsets.shown(path),
        }
        for entry, path in conflicts
    ]
    number = len(conflicts)
    if number == 1:
        told = f"conflict with {conflicts[0][0].manager.told()}: {fieldsets.shown(conflicts[0][1])}"
        return ApiError(409, "Conflict", f"Apply failed with 1 conflict: {told}", None, causes)
    groups: dict[str, list[str]] = {}
    for entry, path in conflicts:
        groups.setdefault(entry.manager.told(), []).append(f"- {fieldsets.shown(path)}")
    parts = [f"conflicts with {name}:\n" + "\n".join(paths) for name, paths in groups.items()]
    return ApiError(409, "Conflict", f"Apply failed with {number} conflicts: " + "\n".join(parts), None, causes)
