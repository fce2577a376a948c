"""Field selectors (`--field-selector status.phase=Running,metadata.name!=a`) over documents.

A selector is a conjunction of field=value, == or !=; which fields can be named stands with
the resource.  A field that is missing has the empty value, booleans are true and false.
Source: apimachinery's pkg/fields/selector.go and the API's "field selectors".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoplab.api.resources import selectable
from hoplab.api.status import bad_request

_TERM = re.compile(r"(?P<field>[^=!]+)(?P<sign>!=|==|=)(?P<value>.*)\Z", re.DOTALL)
_ALIASES = {
    ("Event", "reportingComponent"): "reportingComponent",
    ("Event", "source"): "source.component",
}


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Terms (field, equal or not, value); all must hold."""

    kind: str = ""
    terms: tuple[tuple[str, bool, str], ...] = ()

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether an object is selected."""
        return all((self._value(document, field) == value) is equal for field, equal, value in self.terms)

    def _value(self, document: Mapping[str, Any], field: str) -> str:
        found: Any = document
        for key in _ALIASES.get((self.kind, field), field).split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None:
            return {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0"}.get(field, "")
        return found if isinstance(found, str) else json.dumps(found)


def parse(text: str, kind: str) -> FieldSelector:
    """A selector of objects of this kind.  Raises ApiError (400)."""
    terms = []
    for term in re.split(r"(?<!\\),", text):
        if not term.strip():
            continue
        match = _TERM.match(term.strip())
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        field = match["field"].strip()
        if field not in selectable(kind):
            raise bad_request(_unsupported(field, kind))
        value = re.sub(r"\\([\\,=])", r"\1", match["value"].strip())
        terms.append((field, match["sign"] != "!=", value))
    return FieldSelector(kind, tuple(terms))


def _unsupported(field: str, kind: str) -> str:
    """As the kind's own conversion says it, or the one of all kinds that have none; kubectl tells the rest."""
    if kind in ("Job", "ReplicaSet"):
        return f'field label "{field}" not supported for {kind}'
    if len(selectable(kind)) > len(selectable("")):
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
