"""Addons of a running lab: which are there, and switching one on or off.

An addon is its objects (hoplab.addons), so it is enabled when the cluster has all of
them, whoever applied or deleted them.  It serves when its workloads are ready.
"""

from __future__ import annotations

from hoplab.addons import ADDONS, objects
from hoplab.cluster.cluster import Cluster
from hoplab.errors import HoplabError, InputError, did_you_mean
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store
from hoplab.labs.protocol import Addons
from hoplab.labs.running import RunningLab
from hoplab.net.loop import DeadlinePassed

SERVES_WITHIN_S = 30.0
COUNTED = ("Deployment", "ReplicationController", "ReplicaSet", "StatefulSet")
"""Workloads that have a number of replicas."""


def checked(name: str) -> str:
    """The name, if an addon has it.  Raises InputError with the nearest one."""
    if name not in ADDONS:
        raise InputError(f"no addon is called {name!r}.{did_you_mean(name, ADDONS)} There are: {', '.join(ADDONS)}")
    return name


def asked(lab: RunningLab, request: Addons) -> list[list[object]]:
    """Do what a request says; the addons there are, each with whether it is enabled.

    Raises InputError for a name that is none, HoplabError for an addon that does not come to serve.
    """
    if request.action not in ("list", "enable", "disable"):
        raise InputError(f"expected list, enable or disable, found {request.action!r}")
    if request.action == "enable":
        _enable(lab.cluster, checked(request.name))
    elif request.action == "disable":
        lab.cluster.delete([each.key for each in objects([checked(request.name)]).objects], grace=None)
    return [[name, enabled(lab.cluster.store, name)] for name in sorted(ADDONS)]


def enabled(store: Store, name: str) -> bool:
    """Whether every object of an addon is there, and none is on its way out."""
    found = (store.find(each.kind, each.meta.name, each.meta.namespace) for each in objects([name]).objects)
    return all(each is not None and not each.deleting for each in found)


def _enable(cluster: Cluster, name: str) -> None:
    wanted = objects([name]).objects
    cluster.apply(wanted)
    try:
        cluster.loop.run_until(lambda: not _unready(cluster.store, wanted), SERVES_WITHIN_S, "its pods to be ready")
    except DeadlinePassed as error:
        raise HoplabError(f"addon {name}: {error}; not ready: {', '.join(_unready(cluster.store, wanted))}") from error


def _unready(store: Store, wanted: tuple[KubeObject, ...]) -> list[str]:
    """Workloads among these objects that have fewer ready pods than they want."""
    found = []
    for each in wanted:
        if each.kind in COUNTED:
            there = store.find(each.kind, each.meta.name, each.meta.namespace)
            replicas = each.spec.get("replicas", 1)
            if there is None or there.status.get("readyReplicas", 0) < replicas:
                found.append(f"{each.kind} {each.meta.namespace}/{each.meta.name}")
    return found
