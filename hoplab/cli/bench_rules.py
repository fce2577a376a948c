"""`lab.py bench rules`: what thousands of Services cost, from objects to rules in the kernel, in both proxy modes.

Four things are measured in one sandbox, in turn: making the text, loading it as a node's
kube-proxy does, loading the same text from a file, and following one changed endpoint.
"""

from __future__ import annotations

import gc
import os
import pickle
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hoplab.dataplane.config import ProxyMode

SERVICES = 5000
ENDPOINTS = 3
CHANGES = 110
"""Endpoints that are changed one after the other; the middle one counts, with its share of what is put off."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds of one measurement."""

    text: float
    synced: float
    """Objects to rules in the kernel, the first time: the text and its loading."""
    from_file: float
    changed: float
    """One endpoint of one Service is another one: decide, write, load."""


def measure(mode: ProxyMode, services: int = SERVICES) -> Sizes:
    """One measurement in a sandbox of its own.  Raises RuntimeError with the loader's words."""
    from hoplab.net import sandbox

    with tempfile.TemporaryFile() as handed:

        def inside() -> int:
            pickle.dump(_measure(mode, services), handed)
            handed.flush()
            return 0

        code = sandbox.run(inside)
        handed.seek(0)
        if code != 0:
            raise RuntimeError(f"the measurement in {mode} mode ended with {code}")
        found: Sizes = pickle.load(handed)
    return found


def _measure(mode: ProxyMode, count: int) -> Sizes:
    from hoplab.cluster.proxy import MANY_LEFT, KubeProxy
    from hoplab.dataplane.config import ProxyConfig
    from hoplab.dataplane.view import view
    from hoplab.kube.types import Node
    from hoplab.net.namespaces import Namespace

    gc.disable()
    services, slices = _objects(count)
    node = Node("node1", ("10.240.0.11",), pod_cidrs=("10.1.1.0/24",))
    config = ProxyConfig(mode=mode, cluster_cidrs=("10.1.0.0/16",))
    here = Namespace("this sandbox", os.getpid())
    text, made = _timed(lambda: _text(mode, config, view(services, slices, node, "IPv4")))
    empty = ["iptables-restore"] if mode == "iptables" else ["nft", "flush", "ruleset"]
    load = ["iptables-restore", "--noflush"] if mode == "iptables" else ["nft", "-f", "-"]
    _run(load, text)
    _run(empty, "*nat\nCOMMIT\n*filter\nCOMMIT\n" if mode == "iptables" else "")
    _nothing, from_file = _timed(lambda: _run(load, text))
    _run(empty, "*nat\nCOMMIT\n*filter\nCOMMIT\n" if mode == "iptables" else "")
    proxy = KubeProxy(here, node, config)

    def sync() -> None:
        proxy.start_sync(services, slices)
        proxy.finish_sync()

    _nothing, synced = _timed(sync)
    changes = []
    for number in range(CHANGES):
        at = count * number // CHANGES
        one = slices[at]
        other = replace(one.endpoints[0], addresses=("10.1.1.251",))
        slices[at] = replace(one, endpoints=(other, *one.endpoints[1:]))
        changes.append(_timed(sync)[1])
    # What is put off until the hundredth change falls on that one; each of the hundred has its share of it.
    middle = statistics.median(changes)
    changed = middle + max(0.0, changes[MANY_LEFT - 1] - middle) / MANY_LEFT
    return Sizes(made, synced, from_file, changed)


def _text(mode: ProxyMode, config: Any, seen: Any) -> str:
    from hoplab.dataplane import iptables, nftables

    if mode == "iptables":
        return iptables.build_from_view(seen, config, None).text()
    return nftables.build_from_view(seen, config, None).text()


def _objects(count: int) -> tuple[list[Any], list[Any]]:
    from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, ObjectMeta, Service, ServicePort

    services, slices = [], []
    for number in range(count):
        name, high, low = f"svc{number}", number // 250, number % 250 + 1
        meta = ObjectMeta(name, "default")
        services.append(Service(meta, cluster_ips=(f"10.96.{high}.{low}",), ports=(ServicePort(80, name="http"),)))
        endpoints = tuple(
            Endpoint((f"10.1.{1 + each}.{number % 240 + 2}",), node_name=f"node{each + 1}") for each in range(ENDPOINTS)
        )
        slices.append(
            EndpointSlice(
                ObjectMeta(f"{name}-1", "default"), name, "IPv4", endpoints, (EndpointPort(8080, name="http"),)
            )
        )
    return services, slices


def _timed(what: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = what()
    return result, time.perf_counter() - started


def _run(argv: list[str], text: str) -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[:500]}")
