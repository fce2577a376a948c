"""Cluster DNS at work: keeps the zones of the cluster's name servers at what Services, endpoints and pods are.

Which names there are is decided in hoplab.dns, by pure functions.  Here the zones are
written into the pod, and unbound is told to read them: it takes a zone over as a whole
and goes on answering meanwhile, so no question is lost by a change.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from hoplab.cluster.containers import Run, kind_of
from hoplab.cluster.runtime import ContainerRuntime, RunningPod
from hoplab.dns import server
from hoplab.dns.records import PodAddresses, records
from hoplab.dns.resolv import ResolvConf, pod_resolv_conf
from hoplab.dns.zone import zones
from hoplab.errors import HoplabError
from hoplab.kube.types import Container, EndpointSlice, Service
from hoplab.net.programs import RunningProgram, write_inside

COMMAND_WITHIN_S = 5.0


class ZoneRefused(HoplabError):
    """The name server does not take a zone; str() has its words."""


class Names:
    """All name server pods of the cluster, and what each was last told.

    `address`: of the cluster's DNS Service; `networks`: those in which addresses are looked up backwards; `node`: what
    the nodes themselves ask.
    """

    def __init__(self, runtime: ContainerRuntime, address: str, networks: Sequence[str], node: ResolvConf) -> None:
        self._runtime, self._address, self._networks, self._node = runtime, address, tuple(networks), node
        self._written: dict[int, Mapping[str, str]] = {}

    def sync(
        self,
        servers: Sequence[RunningPod],
        services: Sequence[Service],
        slices: Sequence[EndpointSlice],
        pods: Sequence[PodAddresses],
    ) -> bool:
        """Bring every name server up to date, and wait until it has read its zones; whether anything changed.

        Raises ZoneRefused when one does not take a zone.
        """
        made = zones(records(services, slices, pods), self._networks, server=self._address)
        changed = False
        for running in servers:
            for container in running.pod.containers:
                if kind_of(container) == "dns":
                    changed |= self._one(running, container, made)
        return changed

    def _one(self, running: RunningPod, container: Container, made: Mapping[str, str]) -> bool:
        before = self._written.get(running.namespace.pid, {})
        if before == made:
            return False
        self._written[running.namespace.pid] = made
        program = self._runtime.program(running.namespace, container.name)
        if program is None or program.ended is not None:
            self._start(running, container, made)
        else:
            self._reload(running, program, [name for name in made if made[name] != before.get(name)], made)
        return True

    def _start(self, running: RunningPod, container: Container, made: Mapping[str, str]) -> None:
        found = self._runtime.program_path("unbound")
        if found is None:
            return
        upstreams = pod_resolv_conf(running.pod, (self._address,), self._node).nameservers
        files = {server.zone_file(name): text for name, text in made.items()}
        files[server.CONFIG] = server.unbound_config(made, upstreams)
        run = Run((found.path, "-d", "-c", server.CONFIG), found.environment(), files, (server.PORT,))
        self._runtime.run(running, container, run)
        self._runtime.settle()

    def _reload(
        self, running: RunningPod, program: RunningProgram, names: Sequence[str], made: Mapping[str, str]
    ) -> None:
        for name in names:
            write_inside(running.namespace.pid, server.zone_file(name), made[name])
        for name in names:
            # What it has answered from the zone before is forgotten with the zone.
            for command in (f"auth_zone_reload {name}", f"flush_zone {name}"):
                said = _told(running.namespace.path(server.CONTROL), command)
                if not said.startswith("ok"):
                    words = said.strip() or f"no answer{program.last_words()}"
                    raise ZoneRefused(f"{running.namespace.name}: unbound does not take {name} ({command}): {words}")


def _told(path: str, command: str) -> str:
    """What unbound says to a command (unbound-control's protocol, version 1), or the kernel when it can't be asked."""
    said = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(COMMAND_WITHIN_S)
            control.connect(path)
            control.sendall(f"UBCT1 {command}\n".encode())
            while piece := control.recv(1 << 16):
                said += piece
    except OSError as error:
        return str(error)
    return said.decode("utf-8", "replace")
