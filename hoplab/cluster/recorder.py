"""What the lab's controllers did, as Events: what `kubectl get events` and `kubectl describe` show.

The same event about the same object again raises the count of the first, as client-go's
aggregator does.  The oldest go when there are very many, where a real cluster forgets them
after an hour.  Source: client-go's tools/record/{event,events_cache}.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hoplab.control.plan import Note
from hoplab.kube.clock import timestamp
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.store import Store, StoreError

MOST_EVENTS = 2000

_Same = tuple[str, str, str, str]


class Recorder:
    """Writes Events into the store."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._known: dict[_Same, tuple[str, str]] = {}
        self._order: deque[_Same] = deque()
        self._last_ns = 0

    def note(self, note: Note, component: str, host: str = "") -> None:
        """Tell something that a component did (`host`: on a node)."""
        self.event(note.about, note.reason, note.message, component, host, warning=note.warning)

    def event(
        self,
        about: KubeObject,
        reason: str,
        message: str,
        component: str,
        host: str = "",
        *,
        warning: bool = False,
        field: str = "",
    ) -> None:
        """Tell that something happened to an object; `field` is the part of it, spec.containers{name}."""
        now = self._clock()
        same = (about.meta.uid, reason, message, field)
        known = self._known.get(same)
        if known is not None and self._again(known, now):
            return
        namespace = about.meta.namespace or "default"
        self._last_ns = max(self._last_ns + 1, int(now * 1e9))
        name = f"{about.meta.name}.{self._last_ns:x}"
        involved = {
            "kind": about.kind,
            "namespace": namespace,
            "name": about.meta.name,
            "uid": about.meta.uid,
            "apiVersion": about.api_version,
            "resourceVersion": str(about.metadata.get("resourceVersion") or ""),
        }
        if not about.meta.namespace:
            del involved["namespace"]
        if field:
            involved["fieldPath"] = field
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": component, **({"host": host} if host else {})},
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "count": 1,
            "type": "Warning" if warning else "Normal",
            "eventTime": None,
            "reportingComponent": component,
            "reportingInstance": host,
        }
        self._store.create(object_of(document))
        self._known[same] = (namespace, name)
        self._order.append(same)
        if len(self._order) > MOST_EVENTS:
            self._forget(self._order.popleft())

    def _again(self, known: tuple[str, str], now: float) -> bool:
        """Count the event up; whether it is still there."""
        namespace, name = known
        with self._store.lock:
            event = self._store.find("Event", name, namespace)
            if event is None:
                return False
            count = int(event.document["count"]) + 1
            self._store.update(event.changed(count=count, lastTimestamp=timestamp(now)))
            return True

    def _forget(self, same: _Same) -> None:
        known = self._known.pop(same, None)
        if known is not None:
            try:
                self._store.delete("Event", known[1], known[0])
            except StoreError:
                return
