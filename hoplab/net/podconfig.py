"""What a pod's server is told to do, as plain data that crosses a process border as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hoplab.net import podpages

Fault = Literal["", "silent", "close", "reset"]
FAULTS: tuple[Fault, ...] = ("", "silent", "close", "reset")


@dataclass(frozen=True, slots=True)
class Listener:
    """One port; an empty address means every address of the pod, IPv4 and IPv6."""

    port: int
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    address: str = ""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a pod's server does.

    `fault`: '' none; 'silent' takes connections and data and never answers; 'close'
    closes each connection at once; 'reset' answers each with RST.  UDP stays silent
    under any of them.  `startup_delay_s`: how long it runs before it listens (an
    application that loads first).  `shutdown_delay_s`: how long it goes on serving after SIGTERM
    (a preStop hook's sleep).  Raises ValueError for anything that isn't possible.
    """

    pod: str
    listeners: tuple[Listener, ...]
    namespace: str = "default"
    node: str = ""
    image: str = ""
    style: podpages.Style = "whoami"
    fault: Fault = ""
    startup_delay_s: float = 0.0
    shutdown_delay_s: float = 0.0

    def __post_init__(self) -> None:
        if self.style not in podpages.STYLES:
            raise ValueError(f"pod {self.pod}: style {self.style!r} is none of {', '.join(podpages.STYLES)}")
        if self.fault not in FAULTS:
            raise ValueError(f"pod {self.pod}: fault {self.fault!r} is none of {', '.join(filter(None, FAULTS))}")
        for listener in self.listeners:
            if listener.protocol not in ("TCP", "UDP", "SCTP"):
                raise ValueError(f"pod {self.pod}: protocol {listener.protocol!r} is none of TCP, UDP, SCTP")
            if not 1 <= listener.port <= 65535:
                raise ValueError(f"pod {self.pod}: port {listener.port} is not between 1 and 65535")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> ServerConfig:
        """The reverse of `to_mapping`.  Raises KeyError, TypeError or ValueError on anything else."""
        listeners = tuple(Listener(**listener) for listener in given["listeners"])
        return cls(**{**given, "listeners": listeners})

    def to_mapping(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def wrong_source_rules(address: str, wrong: str) -> str:
    """nft text that makes a pod answer from a wrong source: load it inside the pod's namespace.

    No socket option has TCP do so; a stateless rewrite behind routing does, for every
    protocol, and leaves the node's conntrack as puzzled as a misconfigured pod would.
    """
    family = "ip6" if ":" in address else "ip"
    return (
        "table inet hoplab_fault {\n"
        "\tchain wrong_source {\n"
        "\t\ttype filter hook postrouting priority 350; policy accept;\n"
        f"\t\t{family} saddr {address} {family} saddr set {wrong}\n"
        "\t}\n"
        "}\n"
    )
