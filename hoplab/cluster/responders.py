"""Servers that answer at addresses without a pod, on machines: a node's own address, the client's, or anywhere outside.

An endpoint may be the address of a node (a pod in the host's network), of a machine
beside the cluster, or of nobody in the lab.  The last are borrowed by the client, as if
it were the world outside, with routes to it on every machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hoplab.cluster.reach import Reach
from hoplab.cluster.standins import StandIn
from hoplab.errors import InputError
from hoplab.net.machines import Machine
from hoplab.net.namespaces import listens
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.zygote import Zygote


@dataclass(slots=True)
class _Running:
    stand_in: StandIn
    pid: int
    borrowed: bool


class Responders:
    """What answers on machines in place of pods; `sync` brings it to what is wanted."""

    def __init__(self, machines: Sequence[Machine], zygote: Zygote, reach: Reach) -> None:
        self._zygote, self._reach = zygote, reach
        self._client = next((m for m in machines if m.params.get("role") == "client"), None)
        self._owners = {
            address: machine
            for machine in machines
            for _interface, address, _prefix in machine.netlink.addresses()
            if not address.startswith(("127.", "fe80:")) and address != "::1"
        }
        self._running: dict[str, _Running] = {}

    def is_mine(self, stand_in: StandIn) -> bool:
        """Whether a machine has to answer for it: it owns the address, or no node holds it."""
        return stand_in.address in self._owners or not stand_in.node

    def sync(self, wanted: Mapping[str, StandIn]) -> bool:
        """Start, restart and stop responders; whether anything changed.  Raises SpawnFailed when a port is taken."""
        changed = False
        for address, running in list(self._running.items()):
            if wanted.get(address) != running.stand_in:
                self._stop(self._running.pop(address))
                changed = True
        for address, stand_in in wanted.items():
            if address not in self._running:
                self._running[address] = self._start(stand_in)
                changed = True
        return changed

    def _start(self, stand_in: StandIn) -> _Running:
        owner = self._owners.get(stand_in.address)
        machine = owner or self._client
        if machine is None:
            raise InputError(f"{stand_in.origin}: the topology has no client to answer at {stand_in.address}")
        if owner is None:
            machine.netlink.address("lo", f"{stand_in.address}/{128 if ':' in stand_in.address else 32}")
            self._reach.by_client(stand_in.address)
        ports = tuple(dict.fromkeys((port.port, port.protocol) for port in stand_in.ports if listens(port.protocol)))
        config = ServerConfig(
            pod=stand_in.name,
            listeners=tuple(Listener(port, protocol, stand_in.address) for port, protocol in ports),
            namespace=stand_in.namespace,
            node=machine.name,
        )
        pid = 0
        if ports:
            with open(os.devnull, "wb") as nowhere:
                name = f"{machine.name}: {stand_in.name}"
                pid = self._zygote.server(name, machine.namespace.pid, config.to_mapping(), nowhere.fileno())
        return _Running(stand_in, pid, owner is None)

    def _stop(self, running: _Running) -> None:
        if running.pid:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        if running.borrowed and self._client is not None:
            address = running.stand_in.address
            self._client.netlink.remove_address("lo", f"{address}/{128 if ':' in address else 32}")
