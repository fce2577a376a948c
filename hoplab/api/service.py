"""One request to one answer: which verb of which resource is meant, and what it answers, without any HTTP.

Watches, logs and streams are not here: they last, and belong to the server.
Source: apiserver's pkg/endpoints/installer.go and handlers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoplab.api import bodies, deleting, reviews, status, subresources, tables
from hoplab.api.bodies import Body, Validation
from hoplab.api.paths import flag
from hoplab.api.reading import Reader, wish, without_limit
from hoplab.api.registry import Answer, Registry, Target, WriteOptions, served
from hoplab.api.resources import SUBRESOURCE_KINDS
from hoplab.api.tables import Wanted
from hoplab.api.users import ADMIN, User

_VERBS: Mapping[tuple[str, bool], str] = {
    ("GET", True): "get",
    ("PUT", True): "update",
    ("PATCH", True): "patch",
    ("DELETE", True): "delete",
    ("POST", True): "create",
    ("GET", False): "list",
    ("POST", False): "create",
    ("DELETE", False): "deletecollection",
}
NO_EFFECT = "the lab keeps NetworkPolicies, but nothing enforces them: no packet is dropped because of one"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks."""

    method: str
    target: Target
    query: Mapping[str, str]
    content_type: str = ""
    accept: str = ""
    agent: str = ""
    body: bytes = b""
    user: User = ADMIN


class Service:
    """Answers requests from one store."""

    def __init__(self, registry: Registry, reader: Reader) -> None:
        self.registry, self.reader = registry, reader

    def answer(self, request: Request) -> Answer:
        """The answer, with warnings.  Raises ApiError."""
        verb = verb_of(request)
        form = tables.wanted(request.accept)
        with self.registry.store.lock:
            answer = self._answer(request, verb)
        warnings = list(answer.warnings)
        resource = request.target.resource
        if resource.deprecated:
            warnings.insert(0, resource.deprecated)
        if resource.kind == "NetworkPolicy" and verb in ("create", "update", "patch"):
            warnings.append(NO_EFFECT)
        document = answer.document
        if verb in ("get", "list"):
            document = self._formed(document, request, form)
        return Answer(answer.code, document, tuple(warnings))

    def _answer(self, request: Request, verb: str) -> Answer:
        target, registry = request.target, self.registry
        if target.resource.virtual:
            return Answer(201, reviews.answer(target.resource.kind, self._body(request).data, request.user))
        if target.subresource and target.subresource != "status":
            return self._subresource(request, verb)
        if verb == "get":
            obj = registry.get(target)
            return Answer(200, served(obj, target.resource))
        if verb == "list":
            return self._list(request)
        if verb == "create":
            if target.name:
                raise status.method_not_allowed()
            return registry.create(target, self._body(request), write_options(request))
        if verb == "update":
            return registry.replace(target, self._body(request), write_options(request))
        if verb == "patch":
            return registry.patch(target, self._body(request), request.content_type, write_options(request))
        options = deleting.options(self._body(request) if request.body else None, request.query)
        if verb == "delete":
            return deleting.delete(registry, target, options)
        return self._delete_collection(request, options)

    def _list(self, request: Request) -> Answer:
        resource = request.target.resource
        page = self.reader.list(wish(request.target, request.query))
        # Items say their kind once, in the list's own.
        items = [
            {key: value for key, value in served(obj, resource).items() if key not in ("kind", "apiVersion")}
            for obj in page.objects
        ]
        kind = f"{resource.kind}List"
        document = {"kind": kind, "apiVersion": resource.group_version, "metadata": page.metadata, "items": items}
        return Answer(200, document)

    def _subresource(self, request: Request, verb: str) -> Answer:
        target, registry = request.target, self.registry
        options = write_options(request)
        if target.subresource == "scale":
            if verb == "get":
                return Answer(200, subresources.scale_of(registry.get(target), target))
            media = request.content_type.partition(";")[0].strip() if verb == "patch" else ""
            return subresources.write_scale(registry, target, self._body(request), media, options)
        if target.subresource == "binding":
            return subresources.bind(registry, target, self._body(request), options)
        if target.subresource == "eviction":
            return subresources.evict(registry, target, self._body(request), request.query)
        if target.subresource == "finalize":
            return subresources.finalize(registry, target, self._body(request), options)
        raise status.method_not_allowed()

    def _delete_collection(self, request: Request, options: deleting.DeleteOptions) -> Answer:
        target = request.target
        asked = without_limit(wish(target, request.query))
        page = self.reader.list(asked)
        for obj in page.objects:
            each = Target(target.resource, obj.meta.namespace, obj.meta.name)
            deleting.delete(self.registry, each, options)
        return Answer(200, status.success(status.subject(target.resource)))

    def _body(self, request: Request) -> Body:
        if not request.body:
            raise status.bad_request("expected a body")
        return bodies.decode(request.body, request.content_type)

    def _formed(self, document: Mapping[str, Any], request: Request, form: Wanted) -> Mapping[str, Any]:
        """A document in the form that was asked for."""
        resource = request.target.resource
        if form.form == "Table" and request.target.subresource == "scale":
            return tables.of_scale(document, form.version, self.registry.now())
        if form.form == "Object" or request.target.subresource not in ("", "status"):
            return document
        whole = "items" in document
        head = {"kind": resource.kind, "apiVersion": resource.group_version}
        objects = [{**head, **each} for each in document["items"]] if whole else [document]
        version = document["metadata"].get("resourceVersion", "")
        metadata = document["metadata"] if whole else {"resourceVersion": version}
        if form.form == "Metadata":
            if not whole:
                return tables.partial(document, form.version)
            items = [tables.partial(each, form.version) for each in objects]
            kind = "PartialObjectMetadataList"
            return {"kind": kind, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": metadata, "items": items}
        include = request.query.get("includeObject", "Metadata")
        return tables.table(objects, resource, metadata, form.version, include, self.registry.now())


def verb_of(request: Request) -> str:
    """The verb of a request.  Raises ApiError (405)."""
    target = request.target
    verb = _VERBS.get((request.method, bool(target.name)), "")
    if verb == "list" and flag(request.query, "watch"):
        verb = "watch"
    allowed = SUBRESOURCE_KINDS[target.subresource][3] if target.subresource else target.resource.verbs
    if verb not in allowed:
        raise status.method_not_allowed()
    if verb == "create" and target.resource.namespaced and not target.namespace:
        raise status.method_not_allowed()
    return verb


def write_options(request: Request) -> WriteOptions:
    """The options of a write.  Raises ApiError (400, 422)."""
    query = request.query
    dry = query.get("dryRun", "")
    if dry not in ("", "All"):
        problem = ("dryRun", f'Unsupported value: "{dry}": supported values: "All"')
        raise status.invalid("CreateOptions", "meta.k8s.io", "", [problem])
    text = query.get("fieldValidation", "") or "Warn"
    known: Mapping[str, Validation] = {"Strict": "Strict", "Warn": "Warn", "Ignore": "Ignore"}
    if text not in known:
        raise bodies.unknown_validation(text)
    manager = query.get("fieldManager", "")
    if not manager:
        if request.content_type.startswith("application/apply-patch"):
            message = (
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
            raise status.ApiError(422, "Invalid", message)
        manager = request.agent.partition("/")[0] or "unknown"
    return WriteOptions(bool(dry), manager[:128], known[text], flag(query, "force"))
