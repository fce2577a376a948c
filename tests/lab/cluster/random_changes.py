"""Random changes of a lab, one after the other, and all that a lab is made of, to be compared with another one.

Seeded: the same seed makes the same changes.  Objects come, change and go; some changes are waited
for, some are overtaken by the next.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hoplab.kube.load import load_document
from hoplab.kube.objects import KubeObject, object_of
from tests.lab.cluster.livelab import Live

APPS = ("a", "b", "c")
MOST_REPLICAS = 3
LIMITS = {
    "Deployment": 2,
    "ReplicaSet": 1,
    "ReplicationController": 1,
    "DaemonSet": 1,
    "StatefulSet": 1,
    "Job": 2,
    "Pod": 3,
    "Service": 8,
    "Endpoints": 2,
    "EndpointSlice": 2,
    "ConfigMap": 2,
    "Secret": 2,
    "ServiceAccount": 2,
    "Ingress": 2,
    "IngressClass": 1,
    "NetworkPolicy": 2,
    "Namespace": 2,
}
GROUPS = {
    "Job": "batch/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    **dict.fromkeys(("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"), "apps/v1"),
    **dict.fromkeys(("Ingress", "IngressClass", "NetworkPolicy"), "networking.k8s.io/v1"),
}
FREE = ("service6", "service7")
"""Services without a selector: whose endpoints are Endpoints and EndpointSlices written by hand."""
PLAIN: dict[str, dict[str, Any]] = {
    "ServiceAccount": {},
    "Namespace": {},
    "IngressClass": {"spec": {"controller": "example.org/none"}},
    "NetworkPolicy": {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
}
IMAGES = ("hoplab/whoami", "hoplab/whoami:2", "echoserver", "agnhost")


class Changes:
    """Makes one change after the other."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live, self.chance = live, random.Random(seed)
        self.made: Counter[tuple[str, str]] = Counter()
        """How often which kind was created, changed or deleted."""

    def one(self) -> None:
        """Create, change or delete something."""
        kind = self.chance.choice(list(LIMITS))
        mine = [obj for obj in self.live.store.each(kind) if is_ours(obj) and not obj.deleting]
        what = self.chance.choice(("create", "change", "change", "delete"))
        if not mine or (what == "create" and len(mine) < LIMITS[kind]):
            number = next(n for n in range(100) if not self._there(kind, self._name(kind, n)))
            self._put(self._document(kind, self._name(kind, number)))
            self.made[kind, "create"] += 1
            return
        old = self.chance.choice(mine)
        if what == "delete" or kind in ("Job", "Pod"):
            grace = self.chance.choice((None, 0)) if kind == "Pod" else None
            self.live.cluster.delete([(kind, old.meta.namespace, old.meta.name)], grace=grace)
            self.made[kind, "delete"] += 1
            return
        self._put(self._document(kind, old.meta.name))
        self.made[kind, "change"] += 1

    def _there(self, kind: str, name: str) -> bool:
        return any(obj.meta.name == name for obj in self.live.store.each(kind))

    @staticmethod
    def _name(kind: str, number: int) -> str:
        return FREE[number] if kind == "Endpoints" else f"{kind.lower()}{number}"

    def _put(self, document: dict[str, Any]) -> None:
        obj = load_document(document, "test")
        with self.live.store.lock:
            before = self.live.store.find(obj.kind, obj.meta.name, obj.meta.namespace)
            if before is None:
                self.live.store.create(self.live.cluster.admit(obj))
                return
            kept = {key: before.metadata[key] for key in ("uid", "ownerReferences") if key in before.metadata}
            now = obj.relabelled(**kept, annotations=dict(before.meta.annotations) or None)
            self.live.store.update(self.live.cluster.admit(now.changed(status=before.status)))

    def _document(self, kind: str, name: str) -> dict[str, Any]:
        metadata = {"name": name, "labels": {"test": "yes"}}
        version = GROUPS.get(kind, "v1")
        made: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": metadata}
        if kind in PLAIN:
            metadata["labels"]["number"] = str(self.chance.randrange(100))
            return {**made, **PLAIN[kind]}
        if kind in ("ConfigMap", "Secret"):
            return {**made, "data": {"number": "MTIz" * self.chance.randrange(100)}}
        if kind == "Ingress":
            backend = {"name": f"service{self.chance.randrange(3)}", "port": {"number": 80}}
            return {**made, "spec": {"defaultBackend": {"service": backend}}}
        if kind in ("Endpoints", "EndpointSlice"):
            return {**made, **self._endpoints(kind, metadata)}
        if kind == "Service":
            return {**made, "spec": self._service(name)}
        app = self.chance.choice(APPS)
        if kind == "Pod":
            metadata["labels"]["app"] = app
            return {**made, "spec": self._pod()}
        labels = {"app": app, "owner": name}
        template = {"metadata": {"labels": labels}, "spec": self._pod()}
        spec: dict[str, Any] = {"template": template}
        if kind == "Job":
            template["spec"] = {
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "busybox", "command": ["true"]}],
            }
            return {**made, "spec": {**spec, "completions": self.chance.randrange(1, 3)}}
        selector = {"owner": name}
        spec["selector"] = selector if kind == "ReplicationController" else {"matchLabels": selector}
        if kind != "DaemonSet":
            spec["replicas"] = self.chance.randrange(MOST_REPLICAS + 1)
        if kind == "Deployment":
            spec["strategy"] = self.chance.choice(({"type": "Recreate"}, {"type": "RollingUpdate"}))
        if kind == "StatefulSet":
            spec["serviceName"] = "service0"
            spec["podManagementPolicy"] = "Parallel"
        return {**made, "spec": spec}

    def _endpoints(self, kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
        ports = [{"name": "http", "port": self.chance.choice((80, 81))}]
        hosts = [f"10.240.9.{n}" for n in self.chance.sample(range(20, 30), self.chance.randrange(1, 4))]
        if kind == "Endpoints":
            return {"subsets": [{"addresses": [{"ip": host} for host in hosts], "ports": ports}]}
        metadata["labels"]["kubernetes.io/service-name"] = self.chance.choice(FREE)
        return {"addressType": "IPv4", "endpoints": [{"addresses": [host]} for host in hosts], "ports": ports}

    def _pod(self) -> dict[str, Any]:
        container = {"name": "c", "image": self.chance.choice(IMAGES), "ports": [{"containerPort": 80}]}
        return {"terminationGracePeriodSeconds": 1, "containers": [container]}

    def _service(self, name: str) -> dict[str, Any]:
        ports = [{"name": "http", "port": self.chance.choice((80, 8080)), "targetPort": 80}]
        if self.chance.random() < 0.3:
            ports.append({"name": "dns", "port": 53, "protocol": "UDP"})
        spec: dict[str, Any] = {"ports": ports, "type": self.chance.choice(("ClusterIP", "NodePort", "LoadBalancer"))}
        if spec["type"] != "ClusterIP":
            spec["externalTrafficPolicy"] = self.chance.choice(("Cluster", "Local"))
        if self.chance.random() < 0.3:
            spec["sessionAffinity"] = "ClientIP"
        if name not in FREE:
            spec["selector"] = {"app": self.chance.choice(APPS)}
        return spec


def is_ours(obj: KubeObject) -> bool:
    """Whether a change made it, and no controller."""
    return obj.meta.labels.get("test") == "yes" and not obj.metadata.get("ownerReferences")


NOT_COPIED = ("Event", "Lease", "Node")
MADE_ANEW = ("Namespace", "EndpointSlice")
"""By the lab or its controllers, but for those that a change made."""


def final_objects(live: Live) -> list[dict[str, Any]]:
    """What a fresh lab needs to come to the same: objects as they are, pods with the addresses that they have."""
    found = []
    for kind in live.store.kinds():
        for obj in live.store.each(kind) if kind not in NOT_COPIED else ():
            if kind in MADE_ANEW and not is_ours(obj):
                continue
            if kind == "Pod" and obj.status.get("phase") == "Running":
                obj = obj.relabelled(annotations={**obj.meta.annotations, "hoplab.dev/ip": obj.status["podIP"]})
                obj = obj.changed(status={"phase": "Pending", "qosClass": "BestEffort"})
            found.append(dict(obj.document))
    return found


def put_all(live: Live, documents: list[dict[str, Any]]) -> None:
    """Objects that another lab had, as they were there."""
    for document in documents:
        obj: KubeObject = object_of(document)
        live.store.create(obj)


def everything(live: Live) -> dict[str, Any]:
    """Rules, addresses, processes and files of a lab."""
    cluster = live.cluster
    cluster.check_health()
    found: dict[str, Any] = {}
    mode = cluster.options.proxy.mode
    for agent in cluster.nodes.values():
        argv = ["iptables-save"] if mode == "iptables" else ["nft", "-s", "list", "ruleset"]
        lines = agent.namespace.run(argv).stdout.splitlines()
        found[f"rules of {agent.name}"] = sorted(line for line in lines if not line.startswith(("#", ":")))
        netlink = agent.machine.netlink
        found[f"addresses of {agent.name}"] = sorted(
            (name, address) for name, address, _prefix in netlink.addresses() if not address.startswith("fe80:")
        )
        # The plugin names a pod's cable by chance.
        found[f"links of {agent.name}"] = sorted("veth" if n.startswith("veth") else n for n in netlink.links())
        home = agent.namespace.path("/var/lib/cni/networks/hoplab")
        found[f"leases of {agent.name}"] = sorted(n for n in os.listdir(home) if n[0].isdigit())
        found[f"namespaces of {agent.name}"] = sorted(os.listdir(agent.namespace.path("/run/netns")))
        for running in agent.pods.values():
            found[running.namespace.name] = (agent.name, running.ips, sorted(running.servers))
    if cluster.balancer is not None:
        told = cluster.balancer.machine.namespace.run(["nft", "-s", "list", "ruleset"]).stdout
        # Chains stand in the order of their Services' creation, which is another one in a fresh lab.
        found["balancer"] = sorted(told.splitlines())
    found["processes"] = processes()
    found["endpoints"] = sorted(
        (piece.meta.name, piece.service, [(e.addresses, e.ready, e.node_name, e.target_ref) for e in piece.endpoints])
        for piece in cluster.slices
    )
    return found


def processes() -> dict[str, int]:
    """How many processes of each name there are."""
    found: Counter[str] = Counter()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    found[(entry / "comm").read_text().strip()] += 1
            except OSError:
                continue
    return dict(found)
