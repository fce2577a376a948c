"""The store's objects as typed values, each made once for each version of its object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from hoplab.kube import convert
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store
from hoplab.kube.types import EndpointSlice, Pod, Service, Workload

Key = tuple[str, str]
"""namespace, name"""
T = TypeVar("T")


class _Kept(Generic[T]):
    """Values of one kind, in the order of their objects' creation."""

    def __init__(self, store: Store, kind: str, make: Callable[[KubeObject], T]) -> None:
        self._store, self._kind, self._make = store, kind, make
        self._objects: tuple[KubeObject, ...] | None = None
        self._made: dict[Key, tuple[KubeObject, T]] = {}
        self._values: Mapping[Key, T] = {}

    def values(self) -> Mapping[Key, T]:
        objects = self._store.each(self._kind)
        if objects is not self._objects:
            made: dict[Key, tuple[KubeObject, T]] = {}
            for obj in objects:
                key = (obj.meta.namespace, obj.meta.name)
                had = self._made.get(key)
                made[key] = had if had is not None and had[0] is obj else (obj, self._make(obj))
            self._objects, self._made = objects, made
            self._values = MappingProxyType({key: value for key, (_obj, value) in made.items()})
        return self._values


class Typed:
    """What the store holds, by (namespace, name)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._services = _Kept(store, "Service", convert.as_service)
        self._pods = _Kept(store, "Pod", convert.as_pod)
        self._slices = _Kept(store, "EndpointSlice", lambda obj: convert.as_endpoint_slices(obj)[0])
        self._workloads = {kind: _Kept(store, kind, convert.as_workload) for kind in convert.WORKLOADS}

    @property
    def services(self) -> Mapping[Key, Service]:
        """Services with their addresses."""
        return self._services.values()

    @property
    def pods(self) -> Mapping[Key, Pod]:
        """Pods, running or not."""
        return self._pods.values()

    @property
    def slices(self) -> Mapping[Key, EndpointSlice]:
        """EndpointSlices: made by controllers, and written by hand."""
        return self._slices.values()

    @property
    def workloads(self) -> Mapping[tuple[str, str, str], Workload]:
        """Controllers of pods by (kind, namespace, name)."""
        return {(kind, *key): value for kind, kept in self._workloads.items() for key, value in kept.values().items()}

    def of(self, kind: str) -> list[KubeObject]:
        """The objects of one kind, whole, in the order of their creation."""
        return list(self._store.each(kind))

    def find(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """One object, whole; None when it is not there."""
        return self._store.find(kind, name, namespace)
