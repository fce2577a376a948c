"""Gives Services what they lack: cluster IPs and node ports where no API server did, and balancers' addresses.

Source: pkg/registry/core/service/storage/alloc.go for the former, cloud-provider's
controllers/service/controller.go for the latter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

from hoplab.cluster.options import NODE_PORTS, ClusterOptions
from hoplab.cluster.recorder import Recorder
from hoplab.cluster.typed import Typed
from hoplab.kube.admit import with_allocation
from hoplab.kube.allocate import allocate
from hoplab.kube.problems import ManifestError
from hoplab.kube.store import Conflict, NotFound, Store
from hoplab.kube.types import Service


class Allocator:
    """The service controller of a cloud, and the allocators of an API server for what none has admitted."""

    def __init__(
        self, store: Store, typed: Typed, recorder: Recorder, options: ClusterOptions, chance: random.Random
    ) -> None:
        self._store, self._typed, self._recorder = store, typed, recorder
        self._options, self._chance = options, chance
        self._seen = -1
        self.forgiving = False
        """Tell a Service that can't be given an address by an Event, instead of raising."""

    def run(self) -> bool:
        """Give every Service what it lacks; whether anything was written.  Raises ManifestError, unless forgiving."""
        version = self._store.version_of("Service")
        if version == self._seen:
            return False
        before = tuple(self._typed.services.values())
        try:
            after = self._allocated(before)
        except ManifestError as error:
            if not self.forgiving:
                raise
            after = self._one_by_one(before, error)
        for old, new in zip(before, after, strict=True):
            if new != old:
                self._write(old, new)
        self._seen = self._store.version_of("Service")
        return self._seen != version

    def _allocated(self, services: Sequence[Service]) -> tuple[Service, ...]:
        return allocate(
            services,
            service_cidrs=self._options.service_cidrs,
            node_ports=NODE_PORTS,
            vips=self._options.vips,
            chance=self._chance,
        )

    def _one_by_one(self, services: Sequence[Service], error: ManifestError) -> tuple[Service, ...]:
        """When not all can be served: those that need nothing, and then each other as long as there is something."""
        del error
        done: list[Service] = []
        for service in services:
            try:
                done = list(self._allocated([*done, service]))
            except ManifestError as why:
                done.append(service)
                obj = self._store.find("Service", service.meta.name, service.meta.namespace)
                if obj is not None:
                    text = f"Error syncing load balancer: {why}"
                    self._recorder.event(obj, "SyncLoadBalancerFailed", text, "service-controller", warning=True)
        return tuple(done)

    def _write(self, old: Service, new: Service) -> None:
        obj = self._store.find("Service", new.meta.name, new.meta.namespace)
        if obj is None:
            return
        with suppress(Conflict, NotFound):
            if new.load_balancer_ingress and not old.load_balancer_ingress:
                self._recorder.event(obj, "EnsuringLoadBalancer", "Ensuring load balancer", "service-controller")
                self._recorder.event(obj, "EnsuredLoadBalancer", "Ensured load balancer", "service-controller")
            self._store.update(with_allocation(obj, new))
