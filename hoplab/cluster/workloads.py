"""From workloads to pods: what a ReplicationController, ReplicaSet, Deployment, DaemonSet, StatefulSet wants.

Pure: desired replicas and existing pods in, pods to create and pods to delete out.
Names are made as the controllers make them (owner name, a template hash for
Deployments, a random suffix of five letters), random numbers come from the caller,
so the same seed gives the same names.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hoplab.kube.types import Container, ObjectMeta, Pod, Workload

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes: k8s.io/apimachinery/pkg/util/rand."""


@dataclass(frozen=True, slots=True)
class PodChanges:
    """What has to happen so that the pods are those that the workloads want."""

    create: tuple[Pod, ...]
    delete: tuple[Pod, ...]


def owner(workload: Workload) -> str:
    """The text that a workload's pods carry as their owner."""
    return f"{workload.kind}/{workload.meta.name}"


def template_hash(template: Pod) -> str:
    """A short name for a pod template: pods of one Deployment with different templates must differ in it.

    The value differs from Kubernetes' own (which hashes Go's memory layout); only its purpose is the same.
    """
    document = json.dumps(
        [
            sorted(template.meta.labels.items()),
            [
                [c.name, c.image, c.command, c.args, [(p.port, p.protocol, p.name) for p in c.ports]]
                for c in template.containers
            ],
        ]
    )
    number = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(SUFFIX_LETTERS))
        letters.append(SUFFIX_LETTERS[rest])
    return "".join(letters)


def plan(
    workloads: Sequence[Workload], pods: Iterable[Pod], node_names: Sequence[str], chance: random.Random
) -> PodChanges:
    """Compare what every workload wants with what exists (pods that end already are not passed in)."""
    create: list[Pod] = []
    delete: list[Pod] = []
    owned: dict[tuple[str, str], list[Pod]] = {}
    taken = set()
    for pod in pods:
        taken.add((pod.meta.namespace, pod.meta.name))
        if pod.owner:
            owned.setdefault((pod.meta.namespace, pod.owner), []).append(pod)
    wanted_owners = set()
    for workload in workloads:
        key = (workload.meta.namespace, owner(workload))
        wanted_owners.add(key)
        have = owned.get(key, [])
        stale = [pod for pod in have if _generation(workload) and _label(pod) != _generation(workload)]
        have = [pod for pod in have if pod not in stale]
        delete += stale
        if workload.kind == "DaemonSet":
            running = {pod.node_name for pod in have}
            create += [
                replace(_new(workload, taken, chance), node_name=node) for node in node_names if node not in running
            ]
            delete += [pod for pod in have if pod.node_name not in node_names]
        elif workload.kind == "StatefulSet":
            names = [f"{workload.meta.name}-{ordinal}" for ordinal in range(workload.replicas)]
            running = {pod.meta.name for pod in have}
            create += [_named(workload, name) for name in names if name not in running]
            delete += [pod for pod in have if pod.meta.name not in names]
        else:
            create += [_new(workload, taken, chance) for _ in range(workload.replicas - len(have))]
            delete += have[workload.replicas :]
    delete += [pod for key, group in owned.items() if key not in wanted_owners for pod in group]
    return PodChanges(tuple(create), tuple(delete))


def _generation(workload: Workload) -> str:
    return template_hash(workload.template) if workload.kind == "Deployment" else ""


def _label(pod: Pod) -> str:
    return pod.meta.labels.get("pod-template-hash", "")


def _new(workload: Workload, taken: set[tuple[str, str]], chance: random.Random) -> Pod:
    generation = _generation(workload)
    base = f"{workload.meta.name}-{generation}" if generation else workload.meta.name
    while True:
        name = f"{base}-{''.join(chance.choice(SUFFIX_LETTERS) for _ in range(5))}"
        if (workload.meta.namespace, name) not in taken:
            taken.add((workload.meta.namespace, name))
            return _named(workload, name)


def _named(workload: Workload, name: str) -> Pod:
    generation = _generation(workload)
    labels = {**workload.template.meta.labels, **({"pod-template-hash": generation} if generation else {})}
    meta = ObjectMeta(name, workload.meta.namespace, "", labels, workload.template.meta.annotations)
    return replace(workload.template, meta=meta, owner=owner(workload), origin=workload.origin)


def declared_port(container: Container, name: str) -> int | None:
    """The number of a container's port by its name, None when it declares none of that name."""
    return next((port.port for port in container.ports if port.name == name), None)
