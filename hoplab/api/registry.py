"""Creating and changing objects as the API server does: on the store, in the words of the version that was asked for.

A write goes through the same steps each time: the client's document, in the stored version;
what the API writes itself (names, times, defaults of the kind); validation; admission, which
allocates addresses and ports; who manages which field; the store, which numbers it.  A dry run
takes all steps but the last.
Source: apiserver's pkg/registry/generic/registry/store.go and pkg/endpoints/handlers.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hoplab.api import bodies, managed, openapi, prepare, status, strategic
from hoplab.api.bodies import Body, Validation
from hoplab.api.managed import Manager
from hoplab.api.older import from_stored, to_stored
from hoplab.api.resources import COUNTED, Resource
from hoplab.kube import store as kube_store
from hoplab.kube.admit import Ranges, admit
from hoplab.kube.clock import timestamp
from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.formats import invalid
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.problems import ManifestError
from hoplab.kube.store import Store
from hoplab.kube.types import Origin

Document = Mapping[str, Any]
FROM_API = Origin("<api>")
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
TRIES = 5
"""How often a patch without a resourceVersion is tried anew when somebody else was quicker."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request's path names; name and subresource may be empty."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def about(self) -> status.Subject:
        """For refusals."""
        return status.subject(self.resource, self.name)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a write's query says."""

    dry_run: bool = False
    manager: str = "unknown"
    validation: Validation = "Warn"
    force: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, document, and warnings for the client."""

    code: int
    document: Document
    warnings: tuple[str, ...] = ()


def served(obj: KubeObject, resource: Resource) -> dict[str, Any]:
    """A stored object as clients of a resource see it."""
    document = from_stored(obj.document, resource)
    if resource.kind not in COUNTED and "generation" in document["metadata"]:
        metadata = {key: value for key, value in document["metadata"].items() if key != "generation"}
        document["metadata"] = metadata
    # Kind first, as everybody reads it.
    return {"kind": document.pop("kind"), "apiVersion": document.pop("apiVersion"), **document}


class Registry:
    """The API's writes on one store."""

    def __init__(
        self,
        store: Store,
        ranges: Ranges,
        chance: random.Random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self._ranges = ranges
        self._chance = chance
        self._now = now

    def now(self) -> datetime:
        """The API's clock."""
        return self._now()

    def _stamp(self) -> str:
        return timestamp(self.now().timestamp())

    def get(self, target: Target) -> KubeObject:
        """One object as it is stored.  Raises ApiError (404)."""
        try:
            return self.store.get(target.resource.kind, target.name, target.namespace)
        except kube_store.NotFound as error:
            raise status.not_found(target.about) from error

    def create(self, target: Target, body: Body, options: WriteOptions) -> Answer:
        """POST of a collection."""
        document = bodies.expect_kind(body.data, target.resource)
        metadata = document["metadata"]
        self._place(metadata, target)
        if metadata.get("resourceVersion"):
            raise status.bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and isinstance(metadata.get("generateName"), str) and metadata["generateName"]:
            suffix = "".join(self._chance.choice(_LETTERS) for _ in range(5))
            metadata["name"] = metadata["generateName"][:58] + suffix
        return self._create(target, document, body, options, None)

    def _create(
        self, target: Target, document: dict[str, Any], body: Body, options: WriteOptions, manager: Manager | None
    ) -> Answer:
        """A new object; with `manager` it is the first apply."""
        resource = target.resource
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "resourceVersion"):
            document["metadata"].pop(name, None)
        wanted = {"uid": str(uuid.UUID(int=self._chance.getrandbits(128), version=4))}
        document["metadata"] |= {**wanted, "creationTimestamp": self._stamp()}
        stored = to_stored(document, resource)
        stored["metadata"] = dict(stored["metadata"])
        made, warnings = bodies.checked(prepare.created(stored), resource, body.doubled, options.validation)
        about = status.subject(resource, made["metadata"]["name"])
        self._expect_namespace(made, about)
        obj = self._admitted(made, about)
        schema = openapi.of_resource(resource)
        now = self._stamp()
        if manager is not None:
            config = managed.applied(None, document, manager, now, schema, force=False)
            fields = config["metadata"].get("managedFields")
        else:
            writer = Manager(options.manager, "Update", resource.group_version)
            plain = from_stored(obj.document, resource)
            plain["metadata"] = {key: value for key, value in plain["metadata"].items() if key != "managedFields"}
            plain.pop("status", None)
            fields = managed.updated(None, plain, writer, now, schema)["metadata"].get("managedFields")
        obj = _with_managers(obj, fields)
        if not options.dry_run:
            try:
                self._name_owners(obj)
                obj = self.store.create(obj)
            except kube_store.AlreadyExists as error:
                raise status.already_exists(about) from error
        elif self._exists(obj):
            raise status.already_exists(about)
        else:
            obj = obj.relabelled(generation=1)
        return Answer(201, served(obj, resource), tuple(warnings))

    def replace(self, target: Target, body: Body, options: WriteOptions) -> Answer:
        """PUT of one object, or of its status."""
        document = bodies.expect_kind(body.data, target.resource)
        self._place(document["metadata"], target)
        given = document["metadata"].get("name")
        if given != target.name:
            raise status.bad_request(
                f"the name of the object ({given or ''}) does not match the name on the URL ({target.name})"
            )
        return self._update(target, self.get(target), document, body, options)

    def patch(self, target: Target, body: Body, content_type: str, options: WriteOptions) -> Answer:
        """PATCH of one object, or of its status, by any kind of patch."""
        media = content_type.partition(";")[0].strip()
        if media == "application/apply-patch+yaml":
            return self._apply(target, body, options)
        for tries_left in range(TRIES - 1, -1, -1):
            before = self.get(target)
            document = patched(served(before, target.resource), body.data, media, target.resource)
            document = bodies.expect_kind(document, target.resource)
            name = document["metadata"].get("name")
            if name != target.name:
                problem = ("metadata.name", invalid(name or "", prepare.IMMUTABLE))
                raise status.invalid(target.resource.kind, target.resource.group, target.name, [problem])
            fixed = body.data if isinstance(body.data, Mapping) else {}
            told = bool((fixed.get("metadata") or {}).get("resourceVersion")) if fixed else False
            try:
                return self._update(target, before, document, body, options)
            except status.ApiError as error:
                if error.reason != "Conflict" or told or not tries_left:
                    raise
        raise AssertionError("a patch was neither taken nor refused")

    def change(
        self,
        target: Target,
        options: WriteOptions,
        edit: Callable[[dict[str, Any]], None],
        manager: Manager | None = None,
    ) -> KubeObject:
        """Read an object, edit a copy of its document, write it: for subresources that set a field or two."""
        before = self.get(target)
        document = {**before.document, "metadata": dict(before.document["metadata"])}
        edit(document)
        obj = object_of(document, FROM_API)
        if manager is not None:
            schema = openapi.of_resource(target.resource)
            with_managers = managed.updated(before.document, document, manager, self._stamp(), schema)
            obj = _with_managers(obj, with_managers["metadata"].get("managedFields"))
        return obj if options.dry_run else self._stored(obj, target.about)

    def _apply(self, target: Target, body: Body, options: WriteOptions) -> Answer:
        resource = target.resource
        document = bodies.expect_kind(body.data, resource)
        self._place(document["metadata"], target)
        if document["metadata"].get("managedFields") is not None:
            raise status.bad_request("metadata.managedFields must be nil")
        if document["metadata"].setdefault("name", target.name) != target.name:
            raise status.bad_request("the name of the object does not match the name on the URL")
        manager = Manager(options.manager, "Apply", resource.group_version, target.subresource)
        try:
            before = self.get(target)
        except status.ApiError:
            if target.subresource:
                raise
            return self._create(target, document, body, options, manager)
        live = served(before, resource)
        merged = managed.applied(
            live, document, manager, self._stamp(), openapi.of_resource(resource), force=options.force
        )
        if merged == live:
            return Answer(200, live)
        return self._update(target, before, merged, body, options, applied=True)

    def _update(
        self,
        target: Target,
        before: KubeObject,
        document: dict[str, Any],
        body: Body,
        options: WriteOptions,
        *,
        applied: bool = False,
    ) -> Answer:
        """The next version of an object; `applied`: its managers are those of the document already."""
        resource = target.resource
        old = before.document
        self._keep_identity(target, old, document)
        new = to_stored(document, resource)
        if target.subresource == "status":
            new = {**old, "status": new.get("status") or {}, "metadata": new["metadata"]}
            new["metadata"] = {**old["metadata"], "resourceVersion": new["metadata"].get("resourceVersion", "")}
            if "managedFields" in document["metadata"]:
                new["metadata"]["managedFields"] = document["metadata"]["managedFields"]
        else:
            if "status" in resource.subresources and "status" in old:
                new["status"] = old["status"]
            elif "status" in resource.subresources:
                new.pop("status", None)
            new = prepare.updated(old, new)
        made, warnings = bodies.checked(new, resource, body.doubled, options.validation)
        problems = list(prepare.forbidden_changes(old, made)) if not target.subresource else []
        if problems:
            raise status.invalid(resource.kind, resource.group, target.name, problems)
        obj = self._admitted(made, target.about)
        if not applied:
            writer = Manager(options.manager, "Update", resource.group_version, target.subresource)
            schema = openapi.of_resource(resource)
            fields = managed.updated(
                _comparable(old, resource, target),
                _comparable(obj.document, resource, target),
                writer,
                self._stamp(),
                schema,
            )["metadata"].get("managedFields")
            obj = _with_managers(obj, fields)
        if not options.dry_run:
            obj = self._stored(obj, target.about)
        return Answer(200, served(obj, resource), tuple(warnings))

    def _stored(self, obj: KubeObject, about: status.Subject) -> KubeObject:
        """Write a changed object; one that was only kept by its finalizers goes with the last of them."""
        metadata = obj.document["metadata"]
        try:
            if (
                metadata.get("deletionTimestamp")
                and not metadata.get("finalizers")
                and not metadata.get("deletionGracePeriodSeconds")
                and not (obj.kind == "Namespace" and (obj.document.get("spec") or {}).get("finalizers"))
            ):
                version = metadata.get("resourceVersion", "")
                self.store.delete(obj.kind, obj.meta.name, obj.meta.namespace, resource_version=version)
                return obj
            self._name_owners(obj)
            return self.store.update(obj)
        except kube_store.Conflict as error:
            why = str(error).partition(": ")[2] or str(error)
            raise status.conflict(about, why) from error
        except kube_store.NotFound as error:
            raise status.not_found(about) from error

    def _name_owners(self, obj: KubeObject) -> None:
        """A client may name owners that are not there: such an object goes, as in a cluster."""
        if obj.metadata.get("ownerReferences"):
            self.store.look_behind()

    def _keep_identity(self, target: Target, old: Document, document: dict[str, Any]) -> None:
        """What the client can't change in metadata is as it was; a uid that it names must be the object's."""
        mine = old["metadata"]
        metadata = document["metadata"] = dict(document["metadata"])
        if metadata.get("uid") and metadata["uid"] != mine["uid"]:
            uids = f"UID in precondition: {metadata['uid']}, UID in object meta: {mine['uid']}"
            raise status.conflict(target.about, f"Precondition failed: {uids}")
        for name in ("name", "namespace"):
            if metadata.get(name) and metadata[name] != mine.get(name, metadata[name]):
                given = f"the {name} of the object ({metadata[name]}) does not match the {name} on the URL"
                raise status.bad_request(f"{given} ({mine.get(name)})")
        kept = ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp")
        for name in (*kept, "deletionGracePeriodSeconds", "generateName"):
            if name in mine:
                metadata[name] = mine[name]
            else:
                metadata.pop(name, None)
        managers: Any = metadata.get("managedFields")
        if managers is None and "managedFields" in mine:
            metadata["managedFields"] = mine["managedFields"]
        elif managers in ([], [{}]):
            metadata["managedFields"] = []
        metadata.pop("selfLink", None)

    def _place(self, metadata: dict[str, Any], target: Target) -> None:
        """The namespace of the path into the document.  Raises ApiError (400) when it has another."""
        if not target.resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.get("namespace") not in (None, "", target.namespace):
            raise status.bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request"
                f" ({metadata['namespace']}, {target.namespace})"
            )
        metadata["namespace"] = target.namespace

    def _expect_namespace(self, document: Document, about: status.Subject) -> None:
        if document["kind"] in CLUSTER_SCOPED:
            return
        name = document["metadata"]["namespace"]
        try:
            found = self.store.get("Namespace", name, "")
        except kube_store.NotFound as error:
            raise status.not_found(status.Subject(name, "", "namespaces")) from error
        if found.document["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {name} because it is being terminated"
            message = f"namespace {name} is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
            raise status.forbidden(about, why, [cause])

    def _exists(self, obj: KubeObject) -> bool:
        try:
            self.store.get(obj.kind, obj.meta.name, obj.meta.namespace)
        except kube_store.NotFound:
            return False
        return True

    def _admitted(self, document: Document, about: status.Subject) -> KubeObject:
        """The object with what is allocated to it.  Raises ApiError (422)."""
        obj = object_of(document, FROM_API)
        try:
            return admit(obj, self.store, self._ranges, self._chance)
        except ManifestError as error:
            problems = [(each.field, each.message) for each in error.problems]
            raise status.invalid(obj.kind, about.group, about.name, problems) from error


def patched(document: Document, patch: Any, media: str, resource: Resource) -> dict[str, Any]:
    """A served document after a patch of the given media type.  Raises ApiError."""
    if media == "application/json-patch+json":
        made = strategic.json_patch(document, patch)
    elif media == "application/merge-patch+json":
        made = strategic.merge_patch(document, patch)
    elif media == "application/strategic-merge-patch+json":
        made = strategic.strategic_merge(document, patch, openapi.of_resource(resource))
    else:
        raise status.unsupported_media(
            "the body of the request was in an unknown format - accepted media types include:"
            " application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml,"
            " application/strategic-merge-patch+json"
        )
    if not isinstance(made, dict):
        raise status.bad_request("the patch makes something of the object that is none")
    return made


def _comparable(document: Document, resource: Resource, target: Target) -> dict[str, Any]:
    """What a write through this path can own: all but the status, or the status alone."""
    made = from_stored(document, resource)
    if target.subresource == "status":
        kept = ("apiVersion", "kind", "metadata", "status")
        metadata = {key: value for key, value in made["metadata"].items() if key in ("name", "managedFields")}
        return {**{key: made[key] for key in kept if key in made}, "metadata": metadata}
    if "status" in resource.subresources:
        made.pop("status", None)
    return made


def _with_managers(obj: KubeObject, fields: Any) -> KubeObject:
    metadata = {key: value for key, value in obj.document["metadata"].items() if key != "managedFields"}
    if fields:
        metadata["managedFields"] = fields
    return replace(obj, document={**obj.document, "metadata": metadata})
