"""From objects as they were written to the cluster's typed ones: what `kubectl apply` and `kubectl delete` come to."""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.cluster.cluster import Cluster
from hoplab.kube import convert
from hoplab.kube.objects import KubeObject

DOCUMENTS = ("ConfigMap", "Secret", "Ingress", "IngressClass")
"""Kinds that are kept as they are: pods and the ingress controller read them."""


def apply(cluster: Cluster, objects: Sequence[KubeObject]) -> None:
    """Hand objects to the cluster; it follows them when it converges."""
    cluster.apply(
        services=convert.services(objects),
        pods=[convert.as_pod(each) for each in objects if each.kind == "Pod"],
        workload_list=[convert.as_workload(each) for each in objects if each.kind in convert.WORKLOADS],
        slices=convert.endpoint_slices(objects),
        documents=[each for each in objects if each.kind in DOCUMENTS],
    )
