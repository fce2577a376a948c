"""Capturing in a running lab: the lab opens the packet rings, the caller reads them.

The lab alone can step into its namespaces; but a packet socket, once opened, may be
read by whoever holds its descriptor.  So the rings go to the caller (SCM_RIGHTS), who
maps them and writes the file with its own hands: a slow disk, a full pipe or a Wireshark
that is stopped holds up nobody else, and the kernel counts what a ring had no room for.
"""

from __future__ import annotations

import bisect
import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from hoplab.hops.evidence import Frame, Interface
from hoplab.labs.asking import answer
from hoplab.labs.channel import MOST_DESCRIPTORS, Channel, LabGone
from hoplab.labs.protocol import Capture, ProtocolError
from hoplab.labs.running import RunningLab
from hoplab.net.namespaces import Namespace
from hoplab.net.netlink import Netlink
from hoplab.report.pcapng import PcapngWriter
from hoplab.watch.observer import RawFrame, frame_of
from hoplab.watch.ring import FrameRing, ring_socket
from hoplab.watch.watched import interfaces_of, ring_slots

AT_ONCE = MOST_DESCRIPTORS // 2
"""Rings that go with one message."""


SETTLED_NS = 2_000_000
"""A frame stands in its ring this long after it was stamped, at the latest: then no older one can come any more."""


class Listening:
    """The lab's side of one capture.  Raises InputError for a name that nothing has."""

    def __init__(self, lab: RunningLab, request: Capture, channel: Channel) -> None:
        self._lab, self._channel = lab, channel
        self._chosen = {lab.namespace(each, request.namespace).name for each in request.targets}
        self._told: dict[str, Namespace] = {}
        self.refresh(first=True)

    def refresh(self, *, first: bool = False) -> None:
        """Open rings in namespaces that came.  Raises LabGone when the caller has gone."""
        now = self._lab.cluster.namespaces()
        self._told = {name: ns for name, ns in self._told.items() if now.get(name) == ns}
        new = [ns for name, ns in now.items() if name not in self._told and (not self._chosen or name in self._chosen)]
        for at in range(0, len(new) or first, AT_ONCE):
            part = new[at : at + AT_ONCE]
            rings = [ring_socket(ns, ring_slots(ns)) for ns in part]
            try:
                heard = [{"namespace": ns.name, "slots": ring_slots(ns), "interfaces": _interfaces(ns)} for ns in part]
                self._channel.send({"listen": heard}, [ring.fileno() for ring in rings])
            finally:
                for ring in rings:
                    ring.close()
        self._told.update((ns.name, ns) for ns in new)
        if new or first:
            # The caller's side of this file has no need of what a whole run imports.
            from hoplab.scenario.acting import names

            self._channel.send({"names": names(self._lab.cluster)})
        if first:
            self._channel.send({"ready": True})

    def asked(self, message: Mapping[str, Any]) -> None:
        """Answer which interfaces a namespace has now."""
        name = message.get("interfaces")
        if not isinstance(name, str):
            raise ProtocolError(f"capture: expected the name of a namespace in `interfaces`, found {name!r}")
        namespace = self._lab.cluster.namespaces().get(name)
        self._channel.send({"interfaces": _interfaces(namespace) if namespace is not None else []})


def all_interfaces(lab: RunningLab) -> list[dict[str, Any]]:
    """Every interface of every namespace, as fields of Interface."""
    return [each for namespace in lab.cluster.namespaces().values() for each in _interfaces(namespace)]


def _interfaces(namespace: Namespace) -> list[dict[str, Any]]:
    link = Netlink(namespace)
    try:
        return [asdict(each) for each in interfaces_of(namespace.name, link)]
    finally:
        link.close()


class _Ring:
    """One ring on the caller's side, and the names of its interfaces."""

    def __init__(self, ring: FrameRing, node: str, interfaces: Sequence[Mapping[str, Any]]) -> None:
        self.ring, self.node = ring, node
        self.lost = 0
        self.interfaces: dict[int, Interface] = {}
        self.learn(interfaces)

    def learn(self, interfaces: Sequence[Mapping[str, Any]]) -> None:
        for each in interfaces:
            self.interfaces[each["index"]] = Interface(**each)


class Tap:
    """The caller's side: `frames` until the lab has gone, or somebody calls `stop`."""

    def __init__(self, channel: Channel) -> None:
        """`channel`: on which a Capture was asked for.  Raises LabGone, and what the lab refuses."""
        self._channel = channel
        self._rings: dict[int, _Ring] = {}
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._stopped = False
        self._told_to_stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._told_to_stop, select.POLLIN)
        self._waiting: list[RawFrame] = []
        self.on_interface: Callable[[Interface], None] = lambda _interface: None
        self.names: dict[str, Sequence[str]] = {}
        """Names by address, as far as the lab has told them."""
        self.on_names: Callable[[Mapping[str, Sequence[str]]], None] = lambda _names: None
        self._answers: list[Sequence[Mapping[str, Any]]] = []
        ready = False
        while not ready:
            ready = self._hear()

    def interfaces(self) -> list[Interface]:
        """Every interface that is known by now."""
        return [each for ring in self._rings.values() for each in ring.interfaces.values()]

    def lost(self) -> dict[str, int]:
        """Frames that found no room, by namespace."""
        for ring in self._rings.values():
            ring.lost += ring.ring.lost()
        return {ring.node: ring.lost for ring in self._rings.values() if ring.lost}

    def stop(self) -> None:
        """Have `frames` end with what is there now; may be called from a signal's handler."""
        self._stopped = True
        os.eventfd_write(self._told_to_stop, 1)

    def frames(self) -> Iterator[list[Frame]]:
        """Batches of frames, in order of time over all of them.  A batch may be empty: somebody may look around."""
        while not self._stopped:
            # Frames that wait for their elders are due soon, however silent the lab is.
            ready = self._poll.poll(SETTLED_NS / 1e6 if self._waiting else 1000)
            if any(descriptor == self._channel.fileno() for descriptor, _event in ready):
                try:
                    self._hear()
                except LabGone:
                    break
            yield self._settled(self._drain() - SETTLED_NS)
        self._drain()
        yield self._settled(None)

    def _drain(self) -> int:
        """Take what the rings have; the time before that (ns since 1970)."""
        began = time.time_ns()
        for ring in list(self._rings.values()):

            def keep(time_ns: int, index: int, kind: str, data: bytes, length: int, ring: _Ring = ring) -> None:
                self._waiting.append((time_ns, ring.node, self._name(ring, index), kind, data, length))

            ring.ring.drain(keep)
        return began

    def _settled(self, until_ns: int | None) -> list[Frame]:
        """The frames up to this time (None: all), in order: while one ring is read, another may get an older frame."""
        self._waiting.sort(key=lambda raw: raw[0])
        end = len(self._waiting)
        if until_ns is not None:
            end = bisect.bisect_right(self._waiting, until_ns, key=lambda raw: raw[0])
        done, self._waiting = self._waiting[:end], self._waiting[end:]
        return [frame_of(0, raw) for raw in done]

    def _name(self, ring: _Ring, index: int) -> str:
        known = ring.interfaces.get(index)
        if known is None:
            # It came since: the lab knows it.
            self._channel.send({"interfaces": ring.node})
            while not self._answers:
                self._hear()
            ring.learn([each for each in self._answers.pop() if each["index"] not in ring.interfaces])
            known = ring.interfaces.setdefault(index, Interface(ring.node, f"if{index}", index, "", 0))
            self.on_interface(known)
        return known.name

    def _hear(self) -> bool:
        """Take one message; whether it says that all is set up."""
        message, descriptors = answer(self._channel)
        if "interfaces" in message:
            self._answers.append(message["interfaces"])
        if "names" in message:
            new = {address: known for address, known in message["names"].items() if self.names.get(address) != known}
            self.names.update(new)
            self.on_names(new)
        for heard, descriptor in zip(message.get("listen", ()), descriptors, strict=True):
            self._take(heard, descriptor)
        return bool(message.get("ready"))

    def _take(self, heard: Mapping[str, Any], descriptor: int) -> None:
        ring = _Ring(
            FrameRing(socket.socket(fileno=descriptor), heard["slots"]), heard["namespace"], heard["interfaces"]
        )
        self._rings[descriptor] = ring
        self._poll.register(descriptor, select.POLLIN)
        for interface in ring.interfaces.values():
            self.on_interface(interface)


def record(tap: Tap, sink: BinaryIO, count: int | None = None, only: str = "") -> int:
    """Write frames as they come, with interfaces and names; how many.

    Ends when the tap does, or after `count` frames.  `only`: the one interface of the tapped namespace that is meant.
    Raises BrokenPipeError when whoever reads has gone.
    """
    writer = PcapngWriter(sink, comments=["hoplab capture"])

    def describe(interface: Interface) -> None:
        if only in ("", interface.name):
            writer.interface(interface)

    for interface in tap.interfaces():
        describe(interface)
    writer.names(tap.names)
    tap.on_interface, tap.on_names = describe, writer.names
    sink.flush()
    for batch in tap.frames():
        meant = [frame for frame in batch if only in ("", frame.interface)]
        for frame in itertools.islice(meant, None if count is None else count - writer.frames):
            writer.frame(frame)
        sink.flush()
        if count is not None and writer.frames >= count:
            tap.stop()
            break
    return writer.frames
