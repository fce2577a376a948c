"""The values that probes are described with: endpoints, the shape of a packet, one TCP segment."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["tcp", "udp", "icmp"]
Version = Literal[4, 6]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
WINDOW = 64240
"""What every segment offers; never 0, by which a node's shield tells a probe's RST from the kernel's."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address and a port (for ICMP echo, the identifier)."""

    address: str
    port: int = 0

    @property
    def version(self) -> Version:
        """The address's IP version."""
        return 6 if ":" in self.address else 4

    @property
    def packed(self) -> bytes:
        """The address as it stands in a header."""
        return socket.inet_pton(socket.AF_INET6 if self.version == 6 else socket.AF_INET, self.address)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Shape:
    """What packets of one kind have in common.  `mss` above 0 puts the TCP option in (a SYN has it)."""

    version: Version
    protocol: Protocol
    ttl: int = 64
    tos: int = 0
    dont_fragment: bool = True
    mss: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """What differs from one TCP segment of a connection to the next."""

    flags: int
    seq: int
    ack: int = 0
    payload: bytes = b""
