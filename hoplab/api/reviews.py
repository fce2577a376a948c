"""Who am I and what may I do: the reviews behind `kubectl auth whoami` and `kubectl auth can-i`.

The lab's own user may do everything that the lab serves; of others hoplab.api.users knows.
Source: authentication.k8s.io/v1 SelfSubjectReview, authorization.k8s.io/v1 Self... reviews.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoplab.api import status
from hoplab.api.resources import RESOURCES, by_path
from hoplab.api.users import User, is_open, rules


def answer(kind: str, given: Any, user: User) -> dict[str, Any]:
    """The review with its status.  Raises ApiError (400)."""
    if not isinstance(given, Mapping) or not isinstance(given.get("spec") or {}, Mapping):
        raise status.bad_request(f"expected a {kind}")
    group = "authentication" if kind == "SelfSubjectReview" else "authorization"
    made: dict[str, Any] = {"kind": kind, "apiVersion": f"{group}.k8s.io/v1", "metadata": {}}
    spec = given.get("spec") or {}
    if kind == "SelfSubjectReview":
        return {**made, "status": {"userInfo": user.document()}}
    if kind == "SelfSubjectAccessReview":
        return {**made, "spec": spec, "status": _access(spec) if user.almighty else _of_anybody(spec)}
    return {**made, "spec": spec, "status": rules(user)}


def _of_anybody(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What may be done without any role: these reviews, and reading of discovery."""
    asked = spec.get("resourceAttributes")
    if isinstance(asked, Mapping):
        found = by_path().get((str(asked.get("group", "")), "v1", str(asked.get("resource"))))
        return {"allowed": found is not None and found.virtual and asked.get("verb") == "create"}
    path = spec.get("nonResourceAttributes")
    return {"allowed": isinstance(path, Mapping) and path.get("verb") == "get" and is_open(str(path.get("path", "")))}


def _access(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Allowed, if there is such a resource and verb at all."""
    asked = spec.get("resourceAttributes")
    if not isinstance(asked, Mapping):
        return {"allowed": True, "reason": "the lab's own user may do everything"}
    plural, verb = asked.get("resource"), asked.get("verb")
    group = asked.get("group", "")
    found = [each for each in RESOURCES if plural in ("*", each.plural) and group in ("*", each.group)]
    if not found:
        return {"allowed": False, "reason": f"the lab serves no resource {plural!r} in group {group!r}"}
    if verb != "*" and not any(verb in each.verbs for each in found):
        return {"allowed": False, "reason": f"the lab serves no verb {verb!r} for {plural!r}"}
    return {"allowed": True, "reason": "the lab's own user may do everything"}
