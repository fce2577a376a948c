"""What a user may choose for a run, and how that becomes a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hoplab.cluster.options import CLUSTER_CIDR, ClusterOptions, Fabric
from hoplab.dataplane.balancer import PROVIDERS, Algorithm, Mode
from hoplab.dataplane.config import ProxyConfig, ProxyMode, Release
from hoplab.errors import InputError

MODES_WITHOUT_HAPROXY: tuple[Mode, ...] = ("nat", "passthrough")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `lab.py scenario`; None means: what the provider or the scenario says."""

    balancer: Algorithm | None = None
    balancer_mode: Mode | None = None
    provider: str | None = None
    proxy_mode: ProxyMode = "iptables"
    fabric: Fabric = "routes"
    kubernetes: Release = "1.33"
    nodes: int | None = None
    seed: int = 7
    captures: Path | None = None
    pause: bool = False

    def cluster(self, topology: str, nodes: int) -> ClusterOptions:
        """The cluster that these choices describe.  Raises InputError for a combination that can't be."""
        if self.provider is not None and self.provider not in PROVIDERS:
            raise InputError(f"--provider: expected one of {', '.join(PROVIDERS)}, found {self.provider!r}")
        preset = PROVIDERS[self.provider or "gce"]
        mode = self.balancer_mode or preset.mode
        if mode not in MODES_WITHOUT_HAPROXY:
            raise InputError(
                f"--balancer-mode {mode}: the proxying balancer is not part of this release;"
                f" there are {', '.join(MODES_WITHOUT_HAPROXY)}"
            )
        wanted = self.nodes or nodes
        if topology == "single" and self.nodes not in (None, 1):
            raise InputError(f"--nodes {self.nodes}: the topology single has one node; use the topology cloud")
        options = ClusterOptions(
            topology=topology,
            nodes=wanted,
            fabric=self.fabric,
            algorithm=self.balancer or preset.algorithm,
            mode=mode,
            proxy=ProxyConfig(mode=self.proxy_mode, cluster_cidrs=(CLUSTER_CIDR,), kubernetes=self.kubernetes),
            seed=self.seed,
        )
        return replace(options, nodes=1) if topology == "single" else options
