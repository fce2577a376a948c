"""A lab that stays: the controllers work whenever the store changes, and nobody has to say `converge`.

A change of the store, by whichever thread, wakes the lab's loop through a descriptor; there the
controllers run until nothing changes.  Time alone wakes them for what only time changes: a pod that
becomes available, a deadline, the balancer's next health check, the nodes' leases.  What can't be
done is told by Events and warnings, and tried again; it ends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hoplab.errors import HoplabError
from hoplab.kube.clock import micro_timestamp
from hoplab.kube.objects import object_of
from hoplab.kube.store import Conflict, NotFound
from hoplab.net.cni import CniError
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed
from hoplab.net.netlink import NetlinkFailed
from hoplab.net.timers import Timer
from hoplab.net.zygote import SpawnFailed

if TYPE_CHECKING:
    from hoplab.cluster.cluster import Cluster

ROUNDS_AT_ONCE = 50
"""Rounds before the loop may look after others again."""
AGAIN_S = 1.0
"""After how long something that failed is tried again."""
HEALTH_EVERY_S = 2.0
HEALTH_TIMEOUT_S = 1.0
LEASE_EVERY_S, LEASE_S = 10.0, 40
"""The kubelet's: renewed every ten seconds, good for forty."""
FAULTS = (HoplabError, CommandFailed, NetlinkFailed, SpawnFailed, CniError, DeadlinePassed, OSError)


class Follower:
    """Keeps a cluster in step with its store until it is closed; `rules_lag_s` as in `Cluster.follow`."""

    def __init__(self, cluster: Cluster, rules_lag_s: float = 0.0) -> None:
        self._cluster, self._lag_s = cluster, rules_lag_s
        self._rules_timer: Timer | None = None
        self._rules_now = not rules_lag_s
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._timer: Timer | None = None
        self._healthy_at = -1
        self._faults: set[str] = set()
        self._pending = False
        self.rounds = 0
        """How often the controllers were woken so far."""
        cluster.kubelets.forgiving = cluster.allocator.forgiving = cluster.controllers.forgiving = True
        cluster.kubelets.wake = self.wake
        cluster.loop.register(self._fd, self._woken)
        self._unsubscribe = cluster.store.subscribe(self.wake)
        self._renew()
        self._check_now_and_then()
        self.wake()

    def close(self) -> None:
        """Follow no more."""
        self._unsubscribe()
        self._cluster.loop.unregister(self._fd)
        cluster = self._cluster
        cluster.kubelets.wake = lambda: None
        cluster.kubelets.forgiving = cluster.allocator.forgiving = cluster.controllers.forgiving = False
        for timer in (self._timer, self._lease_timer, self._health_timer, self._rules_timer):
            if timer is not None:
                timer.cancel()
        os.close(self._fd)

    def wake(self) -> None:
        """Have the controllers look, soon, in the loop's thread; may be called by any thread."""
        self._pending = True
        with suppress(BlockingIOError):
            os.eventfd_write(self._fd, 1)

    @property
    def caught_up(self) -> bool:
        """Whether the controllers saw every change so far, and the nodes' rules have them: with a lag, later."""
        return not self._pending and not self._cluster.rules_due

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        self._pending = False
        self.rounds += 1
        again: float | None = None
        try:
            for _round in range(ROUNDS_AT_ONCE):
                if not self._cluster.step(always=False, rules=self._rules_now):
                    break
            else:
                self.wake()
            self._gather()
            self._faults.clear()
        except FAULTS as error:
            self._tell(str(error))
            again = AGAIN_S
        self._look_again_in(again)
        version = self._cluster.store.version_of("Service", "EndpointSlice")
        if version != self._healthy_at:
            self._healthy_at = version
            self._check()

    def _gather(self) -> None:
        """With a lag, have rules decided on that long after the first change that they would follow."""
        if not self._lag_s:
            return
        self._rules_now = False
        if self._cluster.rules_due and self._rules_timer is None:
            self._rules_timer = self._cluster.timers.after(self._lag_s, self._gathered)

    def _gathered(self) -> None:
        self._rules_timer, self._rules_now = None, True
        self.wake()

    def _tell(self, fault: str) -> None:
        """Each fault once, however often it is met before something works again."""
        if fault not in self._faults:
            self._faults.add(fault)
            self._cluster.warnings.append(fault)

    def _look_again_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        possible = (seconds, self._cluster.controllers.wake_in(), self._cluster.rules_due_in())
        wanted = [each for each in possible if each is not None]
        self._timer = self._cluster.timers.after(min(wanted), self.wake) if wanted else None

    # The balancer

    def _check_now_and_then(self) -> None:
        self._health_timer = self._cluster.timers.after(HEALTH_EVERY_S, self._check_now_and_then)
        self._check()

    def _check(self) -> None:
        balancer, cluster = self._cluster.balancer, self._cluster
        if balancer is None:
            return
        services = tuple(cluster.objects.services.values())
        nodes = [agent.node for agent in cluster.nodes.values()]
        try:
            balancer.check(services, nodes, cluster.timers, HEALTH_TIMEOUT_S, self._checked)
        except FAULTS as error:
            self._tell(str(error))

    def _checked(self, fault: Exception | None) -> None:
        if fault is not None:
            self._tell(str(fault))

    # Leases

    def _renew(self) -> None:
        self._lease_timer = self._cluster.timers.after(LEASE_EVERY_S, self._renew)
        for lease in self._leases():
            store = self._cluster.store
            with store.lock, suppress(Conflict, NotFound):
                before = store.find("Lease", lease["metadata"]["name"], "kube-node-lease")
                if before is None:
                    store.create(object_of(lease))
                else:
                    store.update(before.changed(spec={**before.spec, "renewTime": lease["spec"]["renewTime"]}))

    def _leases(self) -> Iterator[dict[str, Any]]:
        for node in self._cluster.store.each("Node"):
            owner = {"apiVersion": "v1", "kind": "Node", "name": node.meta.name, "uid": node.meta.uid}
            yield {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": node.meta.name, "namespace": "kube-node-lease", "ownerReferences": [owner]},
                "spec": {
                    "holderIdentity": node.meta.name,
                    "leaseDurationSeconds": LEASE_S,
                    "renewTime": micro_timestamp(self._cluster.clock()),
                },
            }
