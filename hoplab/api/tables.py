"""Answers in the form that the client asks for: whole objects, a Table for people, or metadata alone.

kubectl says in the Accept header that it takes `application/json;as=Table;v=v1;g=meta.k8s.io`;
controllers that only need names ask for PartialObjectMetadata.
Source: meta/v1's Table and PartialObjectMetadata, apiserver's pkg/endpoints/handlers/response.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from hoplab.api import columns, pod_columns
from hoplab.api.older import stored_version, to_stored
from hoplab.api.resources import Resource
from hoplab.api.status import ApiError

Form = Literal["Object", "Table", "Metadata"]
_FORMS: Mapping[str, Form] = {
    "Table": "Table",
    "PartialObjectMetadata": "Metadata",
    "PartialObjectMetadataList": "Metadata",
}
_JSON = ("application/json", "*/*", "application/*", "")
_ENDED: Mapping[str, Mapping[str, str]] = {
    "Succeeded": {"reason": "Succeeded", "message": "The pod has completed successfully."},
    "Failed": {"reason": "Failed", "message": "The pod failed."},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of an answer; `version` is meta.k8s.io's."""

    form: Form = "Object"
    version: str = "v1"


def wanted(accept: str) -> Wanted:
    """The first acceptable form of an Accept header.  Raises ApiError (406) when none is."""
    for clause in accept.split(","):
        media, *words = (part.strip() for part in clause.split(";"))
        parameters = dict(word.split("=", 1) for word in words if "=" in word)
        form = _FORMS.get(parameters.get("as", ""), "Object")
        if media in _JSON and form == "Object" and "as" not in parameters:
            return Wanted()
        meta = parameters.get("g") == "meta.k8s.io" and parameters.get("v") in ("v1", "v1beta1")
        if media in _JSON and form != "Object" and meta:
            return Wanted(form, parameters["v"])
    message = "only the following media types are accepted: application/json"
    raise ApiError(406, "NotAcceptable", message)


def _printer(resource: Resource) -> tuple[tuple[columns.Column, ...], columns.Cells]:
    if resource.kind == "Pod":
        return pod_columns.COLUMNS, pod_columns.cells
    return columns.BY_KIND.get(resource.kind, columns.PLAIN)


def table(
    documents: Sequence[Mapping[str, Any]],
    resource: Resource,
    metadata: Mapping[str, Any],
    version: str,
    include: str,
    now: datetime,
    *,
    headed: bool = True,
) -> dict[str, Any]:
    """A Table of objects, given as they are served.

    `include` says what of each object a row carries: Metadata (the default), Object or None.
    """
    head, cells = _printer(resource)
    older = resource.group_version != stored_version(resource)
    rows = []
    for served in documents:
        stored = to_stored(served, resource) if older else served
        row: dict[str, Any] = {"cells": cells(stored, now)}
        phase = str((stored.get("status") or {}).get("phase")) if resource.kind == "Pod" else ""
        if phase in _ENDED:
            row["conditions"] = [{"type": "Completed", "status": "True", **_ENDED[phase]}]
        if include == "Object":
            row["object"] = served
        elif include != "None":
            row["object"] = partial(served, version)
        rows.append(row)
    return _table(head if headed else (), rows, metadata, version)


def _table(
    head: Sequence[columns.Column], rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], version: str
) -> dict[str, Any]:
    shown = [each.document() for each in head]
    kind = {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}"}
    return {**kind, "metadata": metadata, "columnDefinitions": shown, "rows": list(rows)}


def of_scale(scale: Mapping[str, Any], version: str, now: datetime) -> dict[str, Any]:
    """The Table of one Scale."""
    head, cells = columns.SCALE
    row = {"cells": cells(scale, now), "object": partial(scale, version)}
    return _table(head, [row], {"resourceVersion": scale["metadata"]["resourceVersion"]}, version)


def partial(served: Mapping[str, Any], version: str) -> dict[str, Any]:
    """PartialObjectMetadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": served["metadata"],
    }
