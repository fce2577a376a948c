"""Which node a pod runs on.

Pure and small: a pod that names its node gets it, any other goes to the node with
the fewest pods of the same owner, then the fewest pods at all, then the first by
name, which is what a reader expects of equal nodes (the real scheduler's spreading
comes to the same when nothing else differs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hoplab.errors import InputError
from hoplab.kube.types import Pod


def schedule(pods: Sequence[Pod], running: Iterable[Pod], node_names: Sequence[str]) -> list[Pod]:
    """The pods with `node_name` set.  Raises InputError for a node that does not exist."""
    per_node: Counter[str] = Counter()
    per_owner: Counter[tuple[str, str, str]] = Counter()

    def count(pod: Pod) -> None:
        per_node[pod.node_name] += 1
        per_owner[pod.node_name, pod.meta.namespace, pod.owner] += 1

    for pod in running:
        count(pod)
    placed = []
    for pod in pods:
        if pod.node_name and pod.node_name not in node_names:
            raise InputError(
                f"{pod.origin}: pod {pod.meta.namespace}/{pod.meta.name}: spec.nodeName: the lab has no node"
                f" {pod.node_name!r}; its nodes are {', '.join(node_names)}"
            )
        if not pod.node_name:
            best = min(
                node_names,
                key=lambda node: (
                    per_owner[node, pod.meta.namespace, pod.owner] if pod.owner else 0,
                    per_node[node],
                    node_names.index(node),
                ),
            )
            pod = replace(pod, node_name=best)
        count(pod)
        placed.append(pod)
    return placed
