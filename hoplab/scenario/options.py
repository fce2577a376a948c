"""What a user may choose for a run, and how that becomes a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hoplab.cluster.options import CLUSTER_CIDR, ClusterOptions, Fabric
from hoplab.dataplane.balancer import PROVIDERS, Algorithm, Mode
from hoplab.dataplane.config import ProxyConfig, ProxyMode, Release
from hoplab.errors import InputError
from hoplab.scenario.scripts import Terms

PASSING = {"gce": "Google Cloud's balancer of Services", "aws-nlb": "AWS' network load balancer"}
"""Providers whose balancer of Services is no proxy, and what it is called."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `lab.py scenario`; None means: what the provider or the scenario says."""

    balancer: Algorithm | None = None
    balancer_mode: Mode | None = None
    proxy_protocol: bool = False
    provider: str | None = None
    proxy_mode: ProxyMode = "iptables"
    fabric: Fabric = "routes"
    kubernetes: Release = "1.33"
    nodes: int | None = None
    seed: int = 7
    captures: Path | None = None
    pause: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """What was chosen, as it is typed: the options that are not left to their defaults."""
        given = {
            "--balancer": self.balancer,
            "--balancer-mode": self.balancer_mode,
            "--provider": self.provider,
            "--proxy-mode": self.proxy_mode,
            "--fabric": self.fabric,
            "--kubernetes": self.kubernetes,
        }
        chosen = [f"{option} {value}" for option, value in given.items() if value is not None]
        return (*chosen, *(["--proxy-protocol"] if self.proxy_protocol else []))

    def fit(self, terms: Terms) -> ClusterOptions:
        """The cluster for a scenario.  Raises InputError that says why one of the choices can't be there."""
        for words in self.words:
            if reason := terms.without.get(words):
                raise InputError(f"{words}: not for the scenario {terms.name}: {reason}")
        if self.nodes is not None and self.nodes < terms.least_nodes:
            raise InputError(
                f"--nodes {self.nodes}: the scenario {terms.name} needs at least {terms.least_nodes} nodes: what it"
                " shows happens between them"
            )
        try:
            return self.cluster(terms.topology, terms.nodes)
        except InputError as error:
            raise InputError(f"{error} (for the scenario {terms.name})") from error

    def cluster(self, topology: str, nodes: int) -> ClusterOptions:
        """The cluster that these choices describe.  Raises InputError for a combination that can't be."""
        if self.provider is not None and self.provider not in PROVIDERS:
            raise InputError(f"--provider: expected one of {', '.join(PROVIDERS)}, found {self.provider!r}")
        preset = PROVIDERS[self.provider or "gce"]
        mode = self.balancer_mode or preset.mode
        if mode == "proxy" and self.provider in PASSING:
            raise InputError(
                f"--provider {self.provider} --balancer-mode proxy: {PASSING[self.provider]} passes packets on and ends"
                " no connection; take --provider aws, whose balancer is a proxy, or no provider"
            )
        if self.proxy_protocol and mode != "proxy":
            raise InputError(
                f"--proxy-protocol: only a balancer that ends connections can name its client that way, and mode {mode}"
                " rewrites or hands on packets; add --balancer-mode proxy"
            )
        wanted = self.nodes or nodes
        if topology == "single" and self.nodes not in (None, 1):
            raise InputError(f"--nodes {self.nodes}: the topology single has one node; use the topology cloud")
        if topology == "single":
            self._alone()
        options = ClusterOptions(
            topology=topology,
            nodes=wanted,
            fabric=self.fabric,
            algorithm=self.balancer or preset.algorithm,
            mode=mode,
            proxy_protocol=self.proxy_protocol,
            proxy=ProxyConfig(mode=self.proxy_mode, cluster_cidrs=(CLUSTER_CIDR,), kubernetes=self.kubernetes),
            seed=self.seed,
        )
        return replace(options, nodes=1) if topology == "single" else options

    def _alone(self) -> None:
        """Raises InputError for a choice that a single node knows nothing of."""
        for option, value in (
            ("--balancer", self.balancer),
            ("--balancer-mode", self.balancer_mode),
            ("--provider", self.provider),
        ):
            if value is not None:
                raise InputError(f"{option} {value}: the topology single has no load balancer; use the topology cloud")
        if self.fabric != "routes":
            raise InputError(f"--fabric {self.fabric}: the topology single has one node, and no way between nodes")
