"""The objects of one cluster, with versions and a memory of changes: etcd and the API server's watch cache in small.

Every write gets the next number of one sequence, the resourceVersion.  Who updates an
object that somebody else changed meanwhile gets a Conflict and must read it again; who
watches gets every change since the number that he knows, in order, or is told that the
memory does not reach back so far and must list again.  No threads, no clock, no I/O.
Source: the API concepts "resource versions" and "efficient detection of changes",
apimachinery's pkg/api/errors and apiserver's storage/etcd3/store.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hoplab.errors import HoplabError
from hoplab.kube import schema
from hoplab.kube.labels import Selector
from hoplab.kube.objects import KubeObject

HISTORY = 1000
"""Changes that are remembered; the real one keeps five minutes of them."""

EVERYTHING = Selector()
Key = tuple[str, str, str]
"""kind, namespace, name"""


class StoreError(HoplabError):
    """A request that the store refuses; `status` is the HTTP status and `reason` the API's word for it."""

    status = 500
    reason = "InternalError"


class NotFound(StoreError):
    """No such object."""

    status, reason = 404, "NotFound"


class AlreadyExists(StoreError):
    """An object of that kind, namespace and name is there."""

    status, reason = 409, "AlreadyExists"


class Conflict(StoreError):
    """The object is not the one that was read: another version, or another object of that name."""

    status, reason = 409, "Conflict"


class TooOld(StoreError):
    """The changes since that resourceVersion are forgotten: list again, then watch from there."""

    status, reason = 410, "Expired"


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch tells it; `version` is the number of the change."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: KubeObject
    version: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects by namespace and name, and the number from which a watch continues."""

    objects: tuple[KubeObject, ...]
    version: int


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    before: KubeObject | None
    after: KubeObject | None


class Store:
    """Objects by kind, namespace and name.  What it returns is shared: change copies only."""

    def __init__(self, new_uid: Callable[[], str], history: int = HISTORY) -> None:
        self._new_uid = new_uid
        self._objects: dict[Key, KubeObject] = {}
        self._changes: deque[_Change] = deque(maxlen=history)
        self._listeners: list[Callable[[], None]] = []
        self.version = 0
        """Number of the last change."""

    def get(self, kind: str, name: str, namespace: str = "default") -> KubeObject:
        """One object; namespace "" for kinds that have none.  Raises NotFound."""
        found = self._objects.get((kind, namespace, name))
        if found is None:
            raise NotFound(f'{resource_of(kind)} "{name}" not found')
        return found

    def list(self, kind: str, namespace: str | None = None, selector: Selector = EVERYTHING) -> Listing:
        """The objects of a kind, of one namespace or (None) of all."""
        found = (
            obj
            for key, obj in sorted(self._objects.items())
            if key[0] == kind and namespace in (None, key[1]) and selector.matches(obj.meta.labels)
        )
        return Listing(tuple(found), self.version)

    def create(self, obj: KubeObject) -> KubeObject:
        """Store a new object; returns it with uid, generation and resourceVersion.  Raises AlreadyExists."""
        if obj.key in self._objects:
            raise AlreadyExists(f'{resource_of(obj.kind)} "{obj.meta.name}" already exists')
        return self._put(None, _stamped(obj, obj.meta.uid or self._new_uid(), 1, self.version + 1))

    def update(self, obj: KubeObject) -> KubeObject:
        """Replace an object.

        Where the given document has a resourceVersion or a uid, they must be those of the
        stored one.  An update that changes nothing is no change.  Raises NotFound, Conflict.
        """
        before = self.get(obj.kind, obj.meta.name, obj.meta.namespace)
        stored = before.document["metadata"]
        given = obj.document.get("metadata") or {}
        self._expect(before, given.get("resourceVersion") or "", given.get("uid") or "")
        generation = int(stored["generation"])
        same = _stamped(obj, stored["uid"], generation, int(stored["resourceVersion"]))
        if same.document == before.document:
            return before
        if _desired(obj.document) != _desired(before.document):
            generation += 1
        return self._put(before, _stamped(obj, stored["uid"], generation, self.version + 1))

    def delete(
        self, kind: str, name: str, namespace: str = "default", *, resource_version: str = "", uid: str = ""
    ) -> KubeObject:
        """Remove an object, on condition that it is still the given one; returns it.  Raises NotFound, Conflict."""
        before = self.get(kind, name, namespace)
        self._expect(before, resource_version, uid)
        self._put(before, None)
        return before

    def changes(
        self, since: int, kind: str, namespace: str | None = None, selector: Selector = EVERYTHING
    ) -> tuple[Event, ...]:
        """What a watcher that knows everything up to `since` must be told, oldest first.

        An object that a change brings under the selector was ADDED for this watcher, one
        that a change takes away was DELETED.  Raises TooOld.
        """
        oldest = self._changes[0].version if self._changes else self.version + 1
        if since < oldest - 1:
            raise TooOld(f"too old resource version: {since} ({oldest - 1})")
        events = []
        for change in self._changes:
            if change.version > since:
                sample = change.after or change.before
                if sample is not None and sample.kind == kind and namespace in (None, sample.meta.namespace):
                    event = _seen(change, selector)
                    if event is not None:
                        events.append(event)
        return tuple(events)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after each change (it then asks for `changes`); returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _put(self, before: KubeObject | None, after: KubeObject | None) -> KubeObject:
        self.version += 1
        self._changes.append(_Change(self.version, before, after))
        stored = after or before
        assert stored is not None
        if after is None:
            del self._objects[stored.key]
        else:
            self._objects[stored.key] = after
        for listener in tuple(self._listeners):
            listener()
        return stored

    def _expect(self, stored: KubeObject, version: str, uid: str) -> None:
        metadata = stored.document["metadata"]
        cannot = f'Operation cannot be fulfilled on {resource_of(stored.kind)} "{stored.meta.name}"'
        if uid and uid != metadata["uid"]:
            raise Conflict(
                f"{cannot}: Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
            )
        if version and version != metadata["resourceVersion"]:
            raise Conflict(
                f"{cannot}: the object has been modified; please apply your changes to the latest version and try again"
            )


def resource_of(kind: str) -> str:
    """A kind as the API's errors and paths name it: services, deployments.apps, endpoints."""
    group = next((key.rpartition("/")[0].rpartition("/")[0] for key in schema.kinds() if key.endswith(f"/{kind}")), "")
    word = kind.lower()
    if word.endswith("y"):
        plural = f"{word[:-1]}ies"
    elif word.endswith("ss"):
        plural = f"{word}es"
    else:
        plural = word if word.endswith("s") else f"{word}s"
    return f"{plural}.{group}" if group else plural


def _stamped(obj: KubeObject, uid: str, generation: int, version: int) -> KubeObject:
    stamp = {"uid": uid, "generation": generation, "resourceVersion": str(version)}
    metadata = {**(obj.document.get("metadata") or {}), **stamp}
    return replace(obj, meta=replace(obj.meta, uid=uid), document={**obj.document, "metadata": metadata})


def _desired(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the generation counts: everything but metadata and status."""
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}


def _seen(change: _Change, selector: Selector) -> Event | None:
    """One change through a watcher's selector."""
    before = change.before is not None and selector.matches(change.before.meta.labels)
    after = change.after is not None and selector.matches(change.after.meta.labels)
    if after and change.after is not None:
        return Event("MODIFIED" if before else "ADDED", change.after, change.version)
    if before and change.before is not None:
        # A deleted object is told as it last was, under the number of its deletion.
        last = change.after or change.before
        return Event("DELETED", _renumbered(last, change.version), change.version)
    return None


def _renumbered(obj: KubeObject, version: int) -> KubeObject:
    metadata = {**obj.document["metadata"], "resourceVersion": str(version)}
    return replace(obj, document={**obj.document, "metadata": metadata})
