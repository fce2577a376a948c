"""From the bytes of a request to a document, and from a document to an object that may be stored.

What is wrong is told in the API server's order and words: bytes that are no JSON or YAML, or
nest too deep (400); fields of the wrong type (400); unknown or doubled fields (refused, warned
of or dropped, as `fieldValidation` says); values that make no sense (422, one cause each).
Source: apiserver's pkg/endpoints/handlers (decoding, field validation) and the API's validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hoplab.api import gotypes, openapi, protobuf
from hoplab.api.resources import Resource, of_kind
from hoplab.api.status import ApiError, bad_request, invalid, unsupported_media
from hoplab.kube import schema, validate
from hoplab.kube.defaults import defaulted
from hoplab.kube.formats import REQUIRED
from hoplab.kube.problems import ManifestError, Path, field_name
from hoplab.kube.yaml_reader import read_yaml

DEEPEST = 200
"""Nesting; no object of the API comes near it."""
Validation = Literal["Strict", "Warn", "Ignore"]
_SELECTOR: Path = ("spec", "selector")
"""Missing, it is told with what follows from that, like nothing else: the template's labels match nothing."""
_LABELS = ("labels", "annotations", "matchLabels", "nodeSelector", "selector")
_MAPS = ("data", "binaryData", "stringData", "limits", "requests")
_OF_BYTES = (("Secret", "data"), ("ConfigMap", "binaryData"))
_JSON = ("application/json", "application/json-patch+json", "application/merge-patch+json", "")
_YAML = ("application/yaml", "text/yaml", "application/apply-patch+yaml")


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent, and which fields stood in it twice (the last one counts)."""

    data: Any
    doubled: tuple[str, ...] = ()


class _Object(dict[str, Any]):
    doubled: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = _Object(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        made.doubled = tuple(key for key, _value in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return made


def _no_constant(text: str) -> Any:
    raise ValueError(f"invalid character in {text}")


def decode(data: bytes, content_type: str) -> Body:
    """A body of any content type that is read here.  Raises ApiError."""
    media = content_type.partition(";")[0].strip().lower()
    if media in _YAML:
        return _yaml(data)
    if media == protobuf.MEDIA_TYPE:
        return Body(protobuf.decode(data))
    if media in _JSON or media.endswith("+json"):
        return _json(data)
    raise unsupported_media(
        "the body of the request was in an unknown format - accepted media types include: application/json,"
        f" application/yaml, {protobuf.MEDIA_TYPE}"
    )


def _json(data: bytes) -> Body:
    try:
        found = json.loads(data, object_pairs_hook=_pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "exceeded max depth" if isinstance(error, RecursionError) else error
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {why}") from error
    return Body(found, tuple(_measured(found)))


def _yaml(data: bytes) -> Body:
    try:
        documents = read_yaml(data.decode("utf-8"), "body")
    except (UnicodeDecodeError, ManifestError) as error:
        raise bad_request(f"error converting YAML to JSON: {error}") from error
    if len(documents) != 1:
        raise bad_request(f"expected one YAML document, found {len(documents)}")
    return Body(documents[0].data, tuple(_measured(documents[0].data)))


def _measured(found: Any) -> Iterator[str]:
    """Doubled fields, by their way; refuses what is nested too deep, without going that deep itself."""
    waiting: list[tuple[Any, Path]] = [(found, ())]
    while waiting:
        value, path = waiting.pop()
        if len(path) > DEEPEST:
            raise bad_request(f"the object provided is nested more than {DEEPEST} deep")
        if isinstance(value, dict):
            yield from (field_name((*path, key)) for key in getattr(value, "doubled", ()))
            waiting += [(inner, (*path, key)) for key, inner in value.items() if isinstance(inner, (dict, list))]
        elif isinstance(value, list):
            waiting += [(inner, (*path, place)) for place, inner in enumerate(value) if isinstance(inner, (dict, list))]


def expect_kind(data: Any, resource: Resource) -> dict[str, Any]:
    """The document of a request, whose version and kind must be the path's; missing ones are filled in."""
    if not isinstance(data, Mapping):
        raise bad_request(f"expected an object, found {schema.describe(data)}")
    document = {"apiVersion": resource.group_version, "kind": resource.kind, **data}
    if document["kind"] != resource.kind:
        given = f"{document['apiVersion']}, Kind={document['kind']}"
        expected = f"{resource.group_version}, Kind={resource.kind}"
        raise bad_request(f"the object provided is unrecognized (found {given}, expected {expected})")
    if document["apiVersion"] != resource.group_version:
        raise bad_request(
            f"the API version in the data ({document['apiVersion']}) does not match the expected API version"
            f" ({resource.group_version})"
        )
    metadata = document.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise bad_request(f"metadata: expected an object, found {schema.describe(metadata)}")
    document["metadata"] = dict(metadata or {})
    return document


def checked(
    document: Mapping[str, Any], resource: Resource, doubled: Sequence[str], validation: Validation
) -> tuple[dict[str, Any], list[str]]:
    """A document in its stored version with defaults, and warnings.  Raises ApiError (400, 422)."""
    found = list(schema.check(document, f"{document['apiVersion']}/{document['kind']}"))
    unknown = [path for path, message in found if message.startswith(schema.UNKNOWN_FIELD)]
    strict = [f'duplicate field "{each}"' for each in doubled] + [f'unknown field "{field_name(p)}"' for p in unknown]
    cannot = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    for path, message in found:
        if message != REQUIRED and not message.startswith(schema.UNKNOWN_FIELD):
            # Like the real decoder: at the first, and in its words where it has some.
            root = openapi.of_resource(of_kind(resource.kind))
            words = gotypes.unmarshal_error(document, path, resource.kind, root)
            raise bad_request(f"{cannot}: {words or f'{field_name(path)}: {message}'}")
    for field in ("data", "binaryData"):
        for text in (document.get(field) or {}).values() if (resource.kind, field) in _OF_BYTES else ():
            place = gotypes.illegal_base64(text or "")
            if place is not None:
                raise bad_request(f"{cannot}: illegal base64 data at input byte {place}")
    if strict and validation == "Strict":
        raise bad_request(f"{cannot}: strict decoding error: {', '.join(strict)}")
    document = _pruned(document, unknown)
    missing = [
        (path, message)
        for path, message in found
        if message == REQUIRED and path != _SELECTOR and not _zero_in_status(path)
    ]
    problems = missing or list(validate.check(document))
    if problems:
        name = document["metadata"].get("name") or ""
        told = [_told(path, message) for path, message in problems]
        raise invalid(resource.kind, resource.group, name, told)
    return defaulted(document), strict if validation == "Warn" else []


def _told(path: Path, message: str) -> tuple[str, str]:
    """A finding as the API server tells it: of labels the map stands there alone, of other maps the key in brackets."""
    if path == ("metadata", "name") and message == REQUIRED:
        message = f"{REQUIRED}: name or generateName is required"
    if len(path) > 1 and path[-2] in _LABELS and message != REQUIRED:
        return field_name(path[:-1]), message
    if len(path) > 1 and path[-2] in _MAPS:
        return f"{field_name(path[:-1])}[{path[-1]}]", message
    return field_name(path), message


def _zero_in_status(path: Path) -> bool:
    """Whether a missing field is a zero of the API's types: what a status lacks, but for items of its lists."""
    return path[:1] == ("status",) and not any(isinstance(part, int) for part in path)


def _pruned(document: Mapping[str, Any], unknown: Sequence[Path]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document)) if unknown else dict(document)
    for path in sorted(unknown, key=str, reverse=True):
        here: Any = made
        for key in path[:-1]:
            here = here[key]
        here.pop(path[-1], None)
    return made


def unknown_validation(text: str) -> ApiError:
    """422: a fieldValidation that is none."""
    allowed = '"", "Ignore", "Strict", "Warn"'
    problem = ("fieldValidation", f"Unsupported value: {json.dumps(text)}: supported values: {allowed}")
    return invalid("CreateOptions", "meta.k8s.io", "", [problem])
