"""The objects of one cluster, with versions and a memory of changes: etcd and the API server's watch cache in small.

Every write gets the next number of one sequence, the resourceVersion.  Who updates an
object that somebody else changed meanwhile gets a Conflict and must read it again; who
watches gets every change since the number that he knows, in order, or is told that the
memory does not reach back so far and must list again.  No clock and no I/O; the lock is the
caller's, so that the threads of an API server and of controllers can share one store.
Source: the API concepts "resource versions" and "efficient detection of changes",
apimachinery's pkg/api/errors and apiserver's storage/etcd3/store.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from hoplab.errors import HoplabError
from hoplab.kube import schema
from hoplab.kube.labels import Selector
from hoplab.kube.objects import KubeObject

HISTORY = 1000
"""Changes that are remembered; the real one keeps five minutes of them."""

EVERYTHING = Selector()


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


class Forbidden(StoreError):
    """Nobody may do that now."""

    status, reason = 403, "Forbidden"


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
    """Objects by kind, namespace and name.  What it returns is shared: change copies only.

    `lock` is held during every call (give a reentrant one where threads share the store);
    whoever must read and write in one piece holds `store.lock` around both.  `now` gives the
    creationTimestamp of objects that have none (RFC 3339, whole seconds).
    """

    def __init__(
        self,
        new_uid: Callable[[], str],
        history: int = HISTORY,
        *,
        lock: AbstractContextManager[object] | None = None,
        now: Callable[[], str] | None = None,
    ) -> None:
        self.lock: AbstractContextManager[object] = nullcontext() if lock is None else lock
        self.new_uid, self._now = new_uid, now
        self._objects: dict[str, dict[tuple[str, str], KubeObject]] = {}
        self._in_order: dict[str, tuple[KubeObject, ...]] = {}
        self._kind_versions: dict[str, int] = {}
        self._changes: deque[_Change] = deque(maxlen=history)
        self._listeners: list[Callable[[], None]] = []
        self.version = 0
        """Number of the last change."""
        self.deletions = 0
        """How many objects were removed, marked to be, or given owners by a client: whoever cleans up looks here."""

    def get(self, kind: str, name: str, namespace: str = "default") -> KubeObject:
        """One object; namespace "" for kinds that have none.  Raises NotFound."""
        found = self.find(kind, name, namespace)
        if found is None:
            raise NotFound(f'{resource_of(kind)} "{name}" not found')
        return found

    def find(self, kind: str, name: str, namespace: str = "default") -> KubeObject | None:
        """One object, None when it is not there."""
        with self.lock:
            return self._objects.get(kind, {}).get((namespace, name))

    def each(self, kind: str) -> tuple[KubeObject, ...]:
        """The objects of a kind in the order of their creation; the same tuple until one of them changes."""
        with self.lock:
            found = self._in_order.get(kind)
            if found is None:
                found = self._in_order[kind] = tuple(self._objects.get(kind, {}).values())
            return found

    def kinds(self) -> tuple[str, ...]:
        """Kinds of which there is an object."""
        with self.lock:
            return tuple(kind for kind, objects in self._objects.items() if objects)

    def version_of(self, *kinds: str) -> int:
        """Number of the last change of an object of these kinds; 0 when there was none."""
        with self.lock:
            return max((self._kind_versions.get(kind, 0) for kind in kinds), default=0)

    def list(self, kind: str, namespace: str | None = None, selector: Selector = EVERYTHING) -> Listing:
        """The objects of a kind, of one namespace or (None) of all, by namespace and name."""
        with self.lock:
            found = (
                obj
                for key, obj in sorted(self._objects.get(kind, {}).items())
                if namespace in (None, key[0]) and selector.matches(obj.meta.labels)
            )
            return Listing(tuple(found), self.version)

    def create(self, obj: KubeObject) -> KubeObject:
        """Store a new object; returns it with uid, generation and resourceVersion.  Raises AlreadyExists."""
        with self.lock:
            if self.find(obj.kind, obj.meta.name, obj.meta.namespace) is not None:
                raise AlreadyExists(f'{resource_of(obj.kind)} "{obj.meta.name}" already exists')
            born = (obj.document.get("metadata") or {}).get("creationTimestamp") or (self._now() if self._now else "")
            return self._put(None, _stamped(obj, obj.meta.uid or self.new_uid(), 1, self.version + 1, born))

    def update(self, obj: KubeObject) -> KubeObject:
        """Replace an object; one that is being deleted, has no grace left and loses its last finalizer is removed.

        Where the given document has a resourceVersion or a uid, they must be those of the
        stored one.  An update that changes nothing is no change.  Raises NotFound, Conflict.
        """
        with self.lock:
            before = self.get(obj.kind, obj.meta.name, obj.meta.namespace)
            stored = before.document["metadata"]
            given = obj.document.get("metadata") or {}
            self._expect(before, given.get("resourceVersion") or "", given.get("uid") or "")
            generation, born = int(stored["generation"]), stored.get("creationTimestamp") or ""
            same = _stamped(obj, stored["uid"], generation, int(stored["resourceVersion"]), born)
            if same.document == before.document:
                return before
            if _desired(obj.document) != _desired(before.document):
                generation += 1
            after = _stamped(obj, stored["uid"], generation, self.version + 1, born)
            waits = given.get("finalizers") or given.get("deletionGracePeriodSeconds")
            if given.get("deletionTimestamp") and stored.get("finalizers") and not waits:
                self._put(before, None)
                return after
            return self._put(before, after)

    def delete(
        self, kind: str, name: str, namespace: str = "default", *, resource_version: str = "", uid: str = ""
    ) -> KubeObject:
        """Remove an object at once, on condition that it is still the given one; returns it.

        How the API deletes (grace, finalizers, dependents) is in hoplab.kube.deletion.  Raises NotFound, Conflict.
        """
        with self.lock:
            before = self.get(kind, name, namespace)
            self._expect(before, resource_version, uid)
            self._put(before, None)
            return before

    def changes(
        self,
        since: int,
        kind: str,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        where: Callable[[KubeObject], bool] = lambda _obj: True,
    ) -> tuple[Event, ...]:
        """What a watcher that knows everything up to `since` must be told, oldest first.

        An object that a change brings under the selector (and under `where`, for selectors of
        fields) was ADDED for this watcher, one that a change takes away was DELETED.  Raises TooOld.
        """

        def seen(obj: KubeObject | None) -> bool:
            return obj is not None and selector.matches(obj.meta.labels) and where(obj)

        with self.lock:
            oldest = self._changes[0].version if self._changes else self.version + 1
            if since < oldest - 1:
                raise TooOld(f"too old resource version: {since} ({oldest - 1})")
            events = []
            for change in reversed(self._changes):
                if change.version <= since:
                    break
                sample = change.after or change.before
                if sample is not None and sample.kind == kind and namespace in (None, sample.meta.namespace):
                    event = _seen(change, seen)
                    if event is not None:
                        events.append(event)
            return tuple(reversed(events))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after each change (it then asks for `changes`); returns how to stop that.

        It is called in the writer's thread while the lock is held: it may read the store, and must neither
        wait for another thread nor take long; waking a loop by a descriptor is what it is for.
        """
        with self.lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def look_behind(self) -> None:
        """Have whoever cleans up look at the next change although nothing was deleted: it names owners."""
        with self.lock:
            self.deletions += 1

    def _put(self, before: KubeObject | None, after: KubeObject | None) -> KubeObject:
        self.version += 1
        self._changes.append(_Change(self.version, before, after))
        stored = after or before
        assert stored is not None
        objects, key = self._objects.setdefault(stored.kind, {}), (stored.meta.namespace, stored.meta.name)
        if after is None:
            del objects[key]
            self.deletions += 1
        else:
            objects[key] = after
            self.deletions += "deletionTimestamp" in after.document["metadata"]
        self._in_order.pop(stored.kind, None)
        self._kind_versions[stored.kind] = self.version
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


def _stamped(obj: KubeObject, uid: str, generation: int, version: int, born: str) -> KubeObject:
    stamp: dict[str, Any] = {"uid": uid, "generation": generation, "resourceVersion": str(version)}
    if born:
        stamp["creationTimestamp"] = born
    metadata = {**(obj.document.get("metadata") or {}), **stamp}
    return replace(obj, meta=replace(obj.meta, uid=uid), document={**obj.document, "metadata": metadata})


def _desired(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the generation counts: everything but metadata and status."""
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}


def _seen(change: _Change, seen: Callable[[KubeObject | None], bool]) -> Event | None:
    """One change as a watcher sees it, who is told of some objects only."""
    before, after = seen(change.before), seen(change.after)
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
