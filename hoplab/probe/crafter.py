"""Where templates come from: scapy in this process, or in one of its own that was started early.

A run of the lab starts `CrafterProcess` first of all, so that scapy is imported and
the usual shapes are crafted while namespaces, pods and rules are being made.
Nothing but shapes and bytes goes over the socket between the two.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NoReturn, Protocol

from hoplab.errors import HoplabError
from hoplab.net import kernel
from hoplab.net.forking import fork, leave_ctrl_c_to_the_parent
from hoplab.probe.craft import Template
from hoplab.probe.shapes import Shape

ETHERNET_MSS = 1460
"""1500 bytes of an Ethernet frame less the IPv4 and TCP headers (RFC 9293 3.7.1)."""
ETHERNET_MSS6 = 1440

USUAL = (
    Shape(4, "tcp", mss=ETHERNET_MSS),
    Shape(4, "tcp"),
    Shape(4, "udp"),
    Shape(4, "icmp"),
    Shape(6, "tcp", mss=ETHERNET_MSS6),
    Shape(6, "tcp"),
    Shape(6, "udp"),
    Shape(6, "icmp"),
)
"""What probes without special wishes are made of."""


class CraftingFailed(HoplabError):
    """scapy could not make a packet; str() has its reason."""


class Crafter(Protocol):
    """Gives the template of a shape."""

    def template(self, shape: Shape) -> Template:
        """The template of this shape.  Raises CraftingFailed."""
        ...


class ScapyCrafter:
    """scapy in this process: simple, and a quarter of a second slow at the first packet."""

    def __init__(self) -> None:
        self._made: dict[Shape, Template] = {}

    def template(self, shape: Shape) -> Template:
        """The template of this shape, crafted when it is first asked for."""
        found = self._made.get(shape)
        if found is None:
            from hoplab.probe.scapy_layers import layers

            found = self._made[shape] = Template(shape, layers().craft(shape))
        return found


class CrafterProcess:
    """scapy in a child process.  Make it before threads and heavy imports; it dies with its parent."""

    def __init__(self, prepare: Iterable[Shape] = USUAL) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = fork(leave_ctrl_c_to_the_parent)
        if self.pid == 0:
            _serve(theirs)
        theirs.close()
        self._socket = ours
        self._made: dict[Shape, Template] = {}
        self._underway: list[Shape] = []
        for shape in prepare:
            self._ask(shape)

    def template(self, shape: Shape) -> Template:
        """The template of this shape; waits for the process when it isn't crafted yet."""
        if shape not in self._made and shape not in self._underway:
            self._ask(shape)
        while shape not in self._made:
            self._hear()
        return self._made[shape]

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _ask(self, shape: Shape) -> None:
        try:
            self._socket.send(json.dumps(asdict(shape)).encode())
        except OSError as error:
            raise CraftingFailed(f"the process that crafts packets (pid {self.pid}) has died: {error}") from error
        self._underway.append(shape)

    def _hear(self) -> None:
        answer = self._socket.recv(65536)
        if not answer:
            raise CraftingFailed(f"the process that crafts packets (pid {self.pid}) has died")
        shape = self._underway.pop(0)
        if answer[:1] != b"+":
            raise CraftingFailed(f"scapy can't craft {shape}: {answer[1:].decode(errors='replace')}")
        self._made[shape] = Template(shape, answer[1:])


def _serve(requests: socket.socket) -> NoReturn:
    kernel.die_with_parent(signal.SIGKILL)
    # Whatever else the parent had open must not stay open for as long as this process lives.
    os.dup2(requests.fileno(), 3)
    os.closerange(4, 1 << 16)
    door = socket.socket(fileno=3)
    crafter = ScapyCrafter()
    try:
        while request := door.recv(65536):
            door.send(_craft(crafter, json.loads(request)))
    finally:
        # Nothing, no error either, may run on into the parent's code: this is a copy of its stack.
        os._exit(0)


def _craft(crafter: ScapyCrafter, wanted: dict[str, Any]) -> bytes:
    try:
        return b"+" + crafter.template(Shape(**wanted)).head
    except (ImportError, OSError, ValueError, TypeError, AttributeError, struct.error) as error:
        return b"-" + str(error).encode()
