"""Listing and watching: limits, continue tokens, resource versions, and the events of a watch.

A list is a snapshot, and a client that takes it in pieces gets all pieces of the same one: the
token names a snapshot that is kept for a while (objects are never changed in place, so keeping
one costs little).  A watch begins at a resource version, or with what is there now, and tells
every change after it in order, through the client's selectors; one that falls behind further
than the store remembers is told 410 and lists again.
Source: the API concepts "efficient detection of changes", "retrieving large results sets in
chunks" and "resource versions", and apiserver's storage/etcd3 (continue tokens).
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hoplab.api import selectors, status
from hoplab.api.paths import flag
from hoplab.api.registry import Target
from hoplab.api.selectors import FieldSelector
from hoplab.errors import InputError
from hoplab.kube import store as kube_store
from hoplab.kube.labels import Selector
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Event, Store

SNAPSHOTS = 64
"""Lists that somebody takes in pieces, kept at a time."""
ALL_LABELS, ALL_FIELDS = Selector(), FieldSelector()
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a list or watch asks for."""

    target: Target
    labels: Selector = ALL_LABELS
    fields: FieldSelector = ALL_FIELDS
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    initial: bool = False
    """A watch that begins with what is there and says when that is told."""
    timeout: float | None = None
    """Seconds after which a watch ends by itself."""

    def takes(self, obj: KubeObject) -> bool:
        """Whether the selectors take an object."""
        return self.labels.matches(obj.meta.labels) and self.fields.matches(obj.document)

    @property
    def namespace(self) -> str | None:
        """As the store wants it: None for all, "" for kinds that have none."""
        return (self.target.namespace or None) if self.target.resource.namespaced else ""


@dataclass(frozen=True, slots=True)
class Page:
    """A list, or a piece of one."""

    objects: Sequence[KubeObject]
    metadata: Mapping[str, Any]


def wish(target: Target, query: Mapping[str, str]) -> Wish:
    """The query of a list or watch.  Raises ApiError (400)."""
    kind = target.resource.kind
    try:
        labels = Selector.parse(query.get("labelSelector", ""))
    except InputError as error:
        raise status.bad_request(f"unable to parse requirement: {error}") from error
    fields = selectors.parse(query.get("fieldSelector", ""), kind)
    if target.name:
        fields = FieldSelector(kind, (*fields.terms, ("metadata.name", True, target.name)))
    limit, version = _number(query, "limit"), query.get("resourceVersion", "")
    if version and not version.isdecimal():
        raise status.bad_request(f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: invalid syntax')
    timeout = _number(query, "timeoutSeconds") if "timeoutSeconds" in query else None
    return Wish(
        target,
        labels,
        fields,
        limit,
        query.get("continue", ""),
        version,
        query.get("resourceVersionMatch", ""),
        flag(query, "watch"),
        flag(query, "allowWatchBookmarks"),
        flag(query, "sendInitialEvents"),
        float(timeout) if timeout is not None else None,
    )


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "") or "0"
    if not text.isdecimal() or len(text) > 18:
        raise status.bad_request(f'{name}: Invalid value: "{text}": must be a number of 0 or more')
    return int(text)


class Reader:
    """Lists and watches of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._snapshots: OrderedDict[int, tuple[KubeObject, ...]] = OrderedDict()
        self._number = 0

    def list(self, asked: Wish) -> Page:
        """One page.  Raises ApiError: 410 for a token whose snapshot is gone, 504 for a version yet to come."""
        if asked.token:
            return self._continued(asked)
        listing = self.store.list(asked.target.resource.kind, asked.namespace, asked.labels)
        if asked.version and int(asked.version) > listing.version:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            told = f"Too large resource version: {asked.version}, current: {listing.version}"
            raise status.ApiError(504, "Timeout", f"Timeout: {told}", None, [cause], retry_after=1)
        if asked.match == "Exact" and asked.version not in ("", str(listing.version)):
            raise status.expired(f"The provided resource version is too old: {asked.version}")
        found = tuple(obj for obj in listing.objects if asked.fields.matches(obj.document))
        return self._page(found, 0, str(listing.version), asked)

    def _continued(self, asked: Wish) -> Page:
        try:
            number, start, version = json.loads(base64.urlsafe_b64decode(asked.token.encode()))
            snapshot = self._snapshots.get(int(number))
            start = int(start)
        except (ValueError, TypeError) as error:
            raise status.bad_request("continue key is not valid") from error
        if snapshot is None or not 0 <= start <= len(snapshot):
            raise status.expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new"
                " list without the continue parameter."
            )
        return self._page(snapshot, start, str(version), asked, int(number))

    def _page(
        self, found: tuple[KubeObject, ...], start: int, version: str, asked: Wish, number: int | None = None
    ) -> Page:
        end = start + asked.limit if asked.limit else len(found)
        metadata: dict[str, Any] = {"resourceVersion": version}
        if end < len(found):
            if number is None:
                number = self._kept(found)
            token = json.dumps([number, end, version]).encode()
            metadata["continue"] = base64.urlsafe_b64encode(token).decode()
            if asked.labels.empty and not asked.fields.terms:
                metadata["remainingItemCount"] = len(found) - end
        return Page(found[start:end], metadata)

    def _kept(self, found: tuple[KubeObject, ...]) -> int:
        self._number += 1
        self._snapshots[self._number] = found
        while len(self._snapshots) > SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return self._number

    def watch(self, asked: Wish) -> Watch:
        """A watch from where the client says.  Raises ApiError (410)."""
        with self.store.lock:
            listing = self.store.list(asked.target.resource.kind, asked.namespace, asked.labels)
            if asked.initial or asked.version in ("", "0"):
                first = [
                    Event("ADDED", obj, int(obj.metadata["resourceVersion"]))
                    for obj in listing.objects
                    if asked.fields.matches(obj.document)
                ]
                return Watch(self.store, asked, listing.version, tuple(first))
            since = int(asked.version)
            if since > listing.version:
                cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
                told = f"Too large resource version: {since}, current: {listing.version}"
                raise status.ApiError(504, "Timeout", f"Timeout: {told}", None, [cause], retry_after=1)
            watch = Watch(self.store, asked, since, ())
        return watch


class Watch:
    """One watch: asked for news, it tells the events since it was last asked."""

    def __init__(self, store: Store, asked: Wish, since: int, first: tuple[Event, ...]) -> None:
        self._store, self._asked, self._since, self._first = store, asked, since, first
        self._fresh = True

    @property
    def version(self) -> int:
        """Everything up to this resource version was told."""
        return self._since

    def news(self) -> Sequence[Event]:
        """The events that were not told yet, oldest first.  Raises ApiError (410) when they are forgotten."""
        if self._fresh:
            self._fresh = False
            if self._first:
                first, self._first = self._first, ()
                return first
        kind = self._asked.target.resource.kind
        fields = self._asked.fields
        try:
            with self._store.lock:
                upto = self._store.version
                if upto == self._since:
                    return ()
                events = self._store.changes(
                    self._since,
                    kind,
                    self._asked.namespace,
                    self._asked.labels,
                    (lambda obj: fields.matches(obj.document)) if fields.terms else (lambda _obj: True),
                )
        except kube_store.TooOld as error:
            raise status.expired(str(error)) from error
        self._since = upto
        return events


def without_limit(asked: Wish) -> Wish:
    """The same wish for everything at once (a deletion of a collection)."""
    return replace(asked, limit=0, token="", watch=False)
