"""Programs in pods that follow the cluster's objects: Ingress controllers and the cluster's name servers.

In a real cluster each of them watches the API server by itself.  Here the program is the real one (nginx,
unbound) without its watcher, and this is the watcher's part: whenever something changed, they are told.  Most
labs have neither, so what decides about them is imported when the first one runs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hoplab.cluster import outside
from hoplab.cluster.containers import kind_of
from hoplab.cluster.etcfiles import cluster_dns
from hoplab.dns.records import PodAddresses
from hoplab.dns.resolv import ResolvConf
from hoplab.kube.store import Conflict, NotFound

if TYPE_CHECKING:
    from hoplab.cluster.cluster import Cluster
    from hoplab.cluster.ingress import IngressControllers
    from hoplab.cluster.naming import Names
    from hoplab.cluster.node import PodOnNode
    from hoplab.cluster.runtime import RunningPod
    from hoplab.net.zygote import Zygote


class ToldPrograms:
    """All such programs of one cluster."""

    def __init__(self, cluster: Cluster, zygote: Zygote) -> None:
        self._cluster, self._zygote = cluster, zygote
        self._ingress: IngressControllers | None = None
        self.names: Names | None = None
        """What tells the name servers, once there was one."""

    def sync(self) -> bool:
        """Tell each what the objects say now; whether anything changed.  Raises ProgramFailed."""
        changed = self._sync_ingress()
        return self._sync_dns() or changed

    def _of_kind(self, kind: str) -> list[PodOnNode]:
        return [r for r in self._cluster.running() if any(kind_of(container) == kind for container in r.pod.containers)]

    def _as_running(self, pods: list[PodOnNode]) -> list[RunningPod]:
        return [self._cluster.nodes[r.pod.node_name].as_running(r) for r in pods]

    def _sync_ingress(self) -> bool:
        cluster = self._cluster
        controllers = self._as_running(self._of_kind("ingress"))
        ingresses = cluster.objects.of("Ingress")
        if not controllers and not ingresses:
            return False
        from hoplab.cluster import ingress
        from hoplab.ingress.rules import View

        if self._ingress is None:
            self._ingress = ingress.IngressControllers(
                cluster.containers, cluster.objects.find, cluster.warnings.append
            )
        seen = View(
            ingresses,
            cluster.objects.of("IngressClass"),
            cluster.objects.of("Secret"),
            tuple(cluster.objects.services.values()),
            cluster.slices,
        )
        served = self._ingress.sync(controllers, seen)
        for obj in ingress.updated(ingresses, served):
            with suppress(NotFound, Conflict):
                cluster.store.update(obj)
        return served.changed

    def _sync_dns(self) -> bool:
        cluster = self._cluster
        servers = self._of_kind("dns")
        if not servers:
            return False
        names = self.names or self._begin_names()
        pods = [PodAddresses(r.pod.meta.namespace, r.ips) for r in cluster.running() if not r.pod.host_network]
        services = tuple(cluster.objects.services.values())
        return names.sync(self._as_running(servers), services, cluster.slices, pods)

    def _begin_names(self) -> Names:
        """Names are to be had from now on: also the world's outside of the cluster, by the server that is there."""
        from hoplab.cluster.naming import Names

        cluster = self._cluster
        server = outside.outside_server(cluster.net.hosts)
        resolver = ResolvConf((server.address,) if server else ())
        networks = (*cluster.options.service_cidrs, *(c for a in cluster.nodes.values() for c in a.node.pod_cidrs))
        self.names = Names(cluster.containers, cluster_dns(cluster.options.service_cidrs), networks, resolver)
        if problem := outside.serve(self._zygote, cluster.net.hosts):
            cluster.warnings.append(problem)
        for machine in cluster.net.hosts:
            machine.namespace.write("/etc/resolv.conf", resolver.text())
        return self.names
