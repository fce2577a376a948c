"""What `kubectl apply` comes to: objects as they were written go to the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.cluster.cluster import Cluster
from hoplab.errors import InputError
from hoplab.kube.objects import KubeObject


def apply(cluster: Cluster, objects: Sequence[KubeObject]) -> None:
    """Hand objects to the cluster; it follows them when it converges."""
    cluster.apply(objects)


def apply_or_take_back(cluster: Cluster, objects: Sequence[KubeObject]) -> None:
    """Hand objects over and have the cluster follow; when they can't be, it is as before, and the error is raised.

    An API server refuses an object whose address or port another one has before it stores it; here that shows
    when addresses are given out.  Raises what `Cluster.converge` raises; InputError takes the objects back.
    """
    before = [cluster.store.find(obj.kind, obj.meta.name, obj.meta.namespace) for obj in objects]
    apply(cluster, objects)
    try:
        cluster.converge()
    except InputError:
        new = [obj for obj, old in zip(objects, before, strict=True) if old is None]
        cluster.delete((obj.kind, obj.meta.namespace, obj.meta.name) for obj in new)
        for old in before:
            if old is not None:
                cluster.store.update(old.changed(metadata={**old.metadata, "resourceVersion": ""}))
        cluster.converge()
        raise
