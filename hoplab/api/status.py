"""Refusals and results as the API tells them: `Status` objects with reason, code, details and causes.

kubectl prints a refusal by its reason and message ("Error from server (NotFound): ..."),
and other programs decide by reason and code, so both are the API's own.
Source: apimachinery's pkg/api/errors/errors.go and meta/v1's Status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hoplab.api.resources import Resource
from hoplab.errors import HoplabError

Cause = Mapping[str, str]
"""reason, message, field"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a refusal is about: details.name, .group, .kind (the resource's plural), .uid."""

    name: str = ""
    group: str = ""
    resource: str = ""
    uid: str = ""

    @property
    def qualified(self) -> str:
        """deployments.apps"""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def subject(resource: Resource, name: str = "", uid: str = "") -> Subject:
    """The subject of a request for one resource."""
    return Subject(name, resource.group, resource.plural, uid)


class ApiError(HoplabError):
    """A request that is refused."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        about: Subject | None = None,
        causes: Sequence[Cause] = (),
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.about = about
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def document(self) -> dict[str, Any]:
        """The Status object."""
        details: dict[str, Any] = {}
        if self.about is not None:
            pairs = (("name", self.about.name), ("group", self.about.group), ("kind", self.about.resource))
            details = {key: value for key, value in pairs if value}
            if self.about.uid:
                details["uid"] = self.about.uid
        if self.causes:
            details["causes"] = [dict(cause) for cause in self.causes]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        made: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        made["message"] = str(self)
        if self.reason:
            made["reason"] = self.reason
        # There even when it is empty: kubectl debug looks into it without asking.
        made["details"] = details
        return {**made, "code": self.code}


def success(about: Subject) -> dict[str, Any]:
    """The Status of an object that is gone at once."""
    pairs = (("name", about.name), ("group", about.group), ("kind", about.resource), ("uid", about.uid))
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in pairs if value},
    }


def bad_request(message: str) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, "BadRequest", message)


def not_found(about: Subject) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{about.qualified} "{about.name}" not found', about)


def no_resource() -> ApiError:
    """404: no such path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    """405: the resource has no such verb."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def already_exists(about: Subject) -> ApiError:
    """409: an object of that name is there."""
    return ApiError(409, "AlreadyExists", f'{about.qualified} "{about.name}" already exists', about)


def conflict(about: Subject, why: str) -> ApiError:
    """409: another version, or another object, is there now."""
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {about.qualified} "{about.name}": {why}', about)


def forbidden(about: Subject, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403: admission refuses."""
    return ApiError(403, "Forbidden", f'{about.qualified} "{about.name}" is forbidden: {why}', about, causes)


def expired(message: str) -> ApiError:
    """410: list again."""
    return ApiError(410, "Expired", message)


def unsupported_media(message: str) -> ApiError:
    """415: a body in a format that is not read here."""
    return ApiError(415, "UnsupportedMediaType", message)


_REASONS = (
    ("Required value", "FieldValueRequired"),
    ("Duplicate value", "FieldValueDuplicate"),
    ("Unsupported value", "FieldValueNotSupported"),
    ("Forbidden", "FieldValueForbidden"),
    ("Not found", "FieldValueNotFound"),
    ("Too many", "FieldValueTooMany"),
    ("Too long", "FieldValueTooLong"),
    ("Internal error", "InternalError"),
)


def invalid(kind: str, group: str, name: str, problems: Sequence[tuple[str, str]]) -> ApiError:
    """422: `problems` are (field, message in the API server's words), one cause each."""
    causes = [
        {
            "reason": next((word for start, word in _REASONS if message.startswith(start)), "FieldValueInvalid"),
            "message": message,
            "field": field or "<nil>",
        }
        for field, message in problems
    ]
    told = [f"{field or '<nil>'}: {message}" for field, message in problems]
    listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    text = f'{kind}.{group} "{name}" is invalid: {listed}' if group else f'{kind} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", text, Subject(name, group, kind), causes)
