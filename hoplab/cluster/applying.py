"""What `kubectl apply` comes to: objects as they were written go to the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.cluster.cluster import Cluster
from hoplab.kube.objects import KubeObject


def apply(cluster: Cluster, objects: Sequence[KubeObject]) -> None:
    """Hand objects to the cluster; it follows them when it converges."""
    cluster.apply(objects)
