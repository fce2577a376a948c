"""From a request's path to what it names: resource, namespace, name, subresource.

Paths are taken apart before they are decoded, so that no `%2F` in a name becomes a separator,
and names that a file system or a router could misread are refused.
Source: apiserver's pkg/endpoints/request/requestinfo.go and apimachinery's pkg/api/validation/path.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from hoplab.api import status
from hoplab.api.registry import Target
from hoplab.api.resources import by_path

_LONGEST = 2048


def parse(raw_path: str) -> Target:
    """What a path below /api/v1 or /apis/GROUP/VERSION names.  Raises ApiError (400, 404)."""
    if len(raw_path) > _LONGEST:
        raise status.bad_request(f"the path is longer than {_LONGEST} characters")
    parts = [unquote(part) for part in raw_path.strip("/").split("/")]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise status.no_resource()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in by_path():
        namespace, rest = rest[1], rest[2:]
    resource = by_path().get((group, version, rest[0]))
    if resource is None or len(rest) > 3 or bool(namespace) > resource.namespaced:
        raise status.no_resource()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if (len(rest) > 1 and not name) or (subresource and subresource not in resource.subresources):
        raise status.no_resource()
    if resource.namespaced and name and not namespace:
        raise status.no_resource()
    for each in (namespace, name):
        _expect_segment(each)
    return Target(resource, namespace, name, subresource)


def _expect_segment(name: str) -> None:
    if name in (".", ".."):
        raise status.bad_request(f"invalid resource name \"{name}\": [may not be '{name}']")
    for bad in ("/", "%"):
        if bad in name:
            raise status.bad_request(f"invalid resource name \"{name}\": [may not contain '{bad}']")
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in name):
        raise status.bad_request("invalid resource name: it has control characters")


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of the query: `1`, `t`, `true`; a key without a value is false, as in Go's conversion."""
    return query.get(name, "").lower() in ("1", "t", "true")
