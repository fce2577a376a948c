"""Keeps somebody behind every endpoint that a slice only names: pods of the lab's own, and responders on machines.

Who is wanted is decided in hoplab.cluster.standins; they come and go with their endpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoplab.cluster.node import PodOnNode
from hoplab.cluster.publishing import MANAGED_BY, OWN
from hoplab.cluster.responders import Responders
from hoplab.cluster.standins import for_an_endpoint, holds, is_stand_in, pod_object, stand_ins
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store

if TYPE_CHECKING:
    from hoplab.cluster.cluster import Cluster


class StandIns:
    """Those of one cluster."""

    def __init__(self, cluster: Cluster, responders: Responders) -> None:
        self._cluster, self._responders = cluster, responders

    def run(self) -> bool:
        """Have exactly those that are wanted; whether anything changed.  Raises SpawnFailed when a port is taken."""
        cluster = self._cluster
        pods = cluster.objects.pods
        own = [r for r in cluster.running() if not is_stand_in(r.pod)]
        wanted = stand_ins(
            [piece for piece in cluster.slices if piece.meta.labels.get(MANAGED_BY) != OWN],
            [agent.node for agent in cluster.nodes.values()],
            {(r.pod.meta.namespace, r.pod.meta.name) for r in own}
            | {key for key, pod in pods.items() if not is_stand_in(pod)},
            {ip for r in own for ip in r.ips}
            | {p.requested_ip for p in pods.values() if p.requested_ip and not is_stand_in(p)},
        )
        mine = {address: one for address, one in wanted.items() if self._responders.is_mine(one)}
        changed = self._responders.sync(mine)
        made = {(one.namespace, one.name): pod_object(one.pod()) for a, one in wanted.items() if a not in mine}
        for key, pod in pods.items():
            if for_an_endpoint(pod) and _other(cluster.store, key, made.get(key)):
                cluster.delete([("Pod", *key)])
                changed = True
        for key, obj in made.items():
            if cluster.store.find("Pod", key[1], key[0]) is None:
                cluster.apply([obj])
                changed = True
        return changed


def route_stand_in(cluster: Cluster, running: PodOnNode) -> None:
    """Have everybody find a pod of the lab's own whose address is none of its node's subnet."""
    agent = cluster.nodes[running.pod.node_name]
    if is_stand_in(running.pod) and not holds(agent.node, running.pod.requested_ip):
        cluster.reach.by_node(running.pod.requested_ip, agent)


def _other(store: Store, key: tuple[str, str], wanted: KubeObject | None) -> bool:
    """Whether a stand-in is not the one that is wanted."""
    if wanted is None:
        return True
    there = store.get("Pod", key[1], key[0])
    mine = (there.meta.annotations, there.spec.get("containers"), there.spec.get("nodeName"))
    return mine != (wanted.meta.annotations, wanted.spec.get("containers"), wanted.spec.get("nodeName"))
