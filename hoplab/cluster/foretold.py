"""What the controllers would make of some objects, without a lab: Services with addresses, pods with nodes.

The same controllers work on a store of their own; pods count as ready as soon as they have a node.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hoplab.cluster import standing
from hoplab.cluster.allocating import Allocator
from hoplab.cluster.controllers import Controllers
from hoplab.cluster.options import NODE_PORTS, ClusterOptions
from hoplab.cluster.recorder import Recorder
from hoplab.cluster.typed import Typed
from hoplab.control.plan import with_condition
from hoplab.errors import InputError
from hoplab.kube.admit import Ranges, admit
from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store
from hoplab.kube.types import Node, Pod, Service

MOST_ROUNDS = 1000


def foretell(
    objects: Sequence[KubeObject], nodes: Sequence[Node], options: ClusterOptions
) -> tuple[list[Service], list[Pod]]:
    """Services and pods in the order of their creation.

    Raises ManifestError for addresses or ports that are taken, InputError for a node that isn't there.
    """
    numbers = itertools.count(1)
    store = Store(lambda: f"foretold-{next(numbers)}")
    chance = random.Random(options.seed)
    typed, recorder = Typed(store), Recorder(store, lambda: 0.0)
    names = dict.fromkeys(obj.meta.namespace for obj in objects if obj.kind not in CLUSTER_SCOPED)
    for name in names:
        store.create(standing.namespace(name))
    for node in nodes:
        store.create(standing.node(node, 0.0))
    ranges = Ranges(options.service_cidrs, NODE_PORTS)
    for obj in objects:
        if obj.kind not in ("Node", "Namespace"):
            # What is written is taken as it is, as a lab takes it; only API servers insist on their ranges.
            store.create(obj if obj.kind == "Service" else admit(obj, store, ranges, chance))
    allocator = Allocator(store, typed, recorder, options, chance)
    controllers = Controllers(store, recorder, chance, lambda: 0.0)
    for _round in range(MOST_ROUNDS):
        changed = allocator.run()
        changed |= controllers.run()
        changed |= _make_ready(store)
        if not changed:
            break
    known = [node.name for node in nodes]
    for pod in typed.pods.values():
        if pod.node_name and pod.node_name not in known:
            raise InputError(
                f"{pod.origin}: pod {pod.meta.namespace}/{pod.meta.name}: spec.nodeName: the lab has no node"
                f" {pod.node_name!r}; its nodes are {', '.join(known)}"
            )
    return list(typed.services.values()), [pod for pod in typed.pods.values() if pod.node_name]


def _make_ready(store: Store) -> bool:
    before = store.version
    for pod in store.each("Pod"):
        if pod.spec.get("nodeName") and pod.status.get("phase") == "Pending":
            conditions = with_condition(pod.status.get("conditions") or (), "Ready", True, 0.0)
            store.update(pod.changed(status={**pod.status, "phase": "Running", "conditions": conditions}))
    return store.version != before
