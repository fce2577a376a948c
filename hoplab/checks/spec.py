"""What a check file says, as plain values: the cluster, the flows with what is expected of each, the changes between.

The format is described in docs/checks.md.  Everything here is known before a lab is
built; names are looked up when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hoplab.cluster.options import ClusterOptions
from hoplab.kube.objects import KubeObject, Loaded

Outcome = Literal["accepted", "rejected", "dropped", "unhandled"]
Protocol = Literal["tcp", "udp", "icmp"]
Spread = Literal["none", "each", "even"]
"""`spread: true` is 'each' (every endpoint answers), `spread: even` also asks for equal shares."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends: a name of the lab, or an address (`address`) that lies behind one (`name`)."""

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to: a name or an address, port (0 without one), protocol; a Service's port may be given by name."""

    name: str
    port: int
    protocol: Protocol
    port_name: str = ""


@dataclass(frozen=True, slots=True)
class Expect:
    """What has to be seen; None and () mean: not asked."""

    outcome: Outcome | None = None
    endpoints: tuple[tuple[str, int], ...] = ()
    spread: Spread = "none"
    masqueraded: bool | None = None
    hops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """One flow to be sent and judged."""

    name: str
    source: Source
    to: Target
    expect: Expect
    place: Place
    via: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """An object by its kind, namespace and name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """Changes, then the flows that are sent after them."""

    apply: tuple[KubeObject, ...] = ()
    delete: tuple[Key, ...] = ()
    flows: tuple[FlowSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckFile:
    """A whole file.  The first step's `apply` is empty: `loaded` is there from the start."""

    path: Path
    name: str
    options: ClusterOptions
    loaded: Loaded
    steps: tuple[Step, ...] = field(default=())

    @property
    def flows(self) -> tuple[FlowSpec, ...]:
        """Every flow, in order."""
        return tuple(flow for step in self.steps for flow in step.flows)
