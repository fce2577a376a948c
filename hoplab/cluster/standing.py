"""What stands in a cluster before anybody applies anything: namespaces and Nodes.

Source: pkg/controlplane/controller/systemnamespaces, pkg/kubelet/kubelet_node_status.go.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from hoplab import __version__
from hoplab.control.podstatus import RUNTIME
from hoplab.kube.clock import timestamp
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.types import Node

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
KUBERNETES = "v1.33.0"
"""Whose kubelet and kube-proxy the nodes behave like."""
PODS_A_NODE = 110


def namespace(name: str) -> KubeObject:
    """A Namespace, as the API server stores it."""
    return object_of(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
    )


def account(namespace: str) -> KubeObject:
    """The ServiceAccount of pods that name none (pkg/controller/serviceaccount)."""
    metadata = {"name": "default", "namespace": namespace}
    return object_of({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def node(given: Node, now: float) -> KubeObject:
    """The Node object of a machine, as its kubelet registers it."""
    system = os.uname()
    processor = {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine)
    labels = {
        "kubernetes.io/hostname": given.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": processor,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": processor,
        **given.labels,
    }
    room = {"cpu": str(os.cpu_count() or 1), "memory": f"{_memory_kib()}Ki", "pods": str(PODS_A_NODE)}
    return object_of(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": given.name, "labels": labels},
            "spec": {"podCIDR": given.pod_cidrs[0], "podCIDRs": list(given.pod_cidrs)} if given.pod_cidrs else {},
            "status": {
                "capacity": room,
                "allocatable": room,
                "addresses": [
                    *({"type": "InternalIP", "address": address} for address in given.addresses),
                    {"type": "Hostname", "address": given.name},
                ],
                "conditions": list(_conditions(now)),
                "nodeInfo": {
                    "architecture": processor,
                    "operatingSystem": "linux",
                    "kernelVersion": system.release,
                    "osImage": "hoplab node",
                    "containerRuntimeVersion": f"{RUNTIME}://{__version__}",
                    "kubeletVersion": KUBERNETES,
                    "kubeProxyVersion": "",
                    "machineID": "",
                    "systemUUID": "",
                    "bootID": "",
                },
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            },
        }
    )


def kubernetes_service(cluster_ip: str, address: str, port: int) -> list[KubeObject]:
    """The Service by which pods find the API server, and its endpoints, which no controller touches."""
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    labels = {"component": "apiserver", "provider": "kubernetes"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
        "status": {"loadBalancer": {}},
    }
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
    }
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return [object_of(each) for each in (service, endpoints, piece)]


def _conditions(now: float) -> Iterator[Mapping[str, Any]]:
    at = timestamp(now)
    for kind, status, reason, message in (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ):
        yield {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": at,
            "lastTransitionTime": at,
            "reason": reason,
            "message": message,
        }


def _memory_kib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
