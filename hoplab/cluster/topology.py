"""Topologies by name: files of `topologies/` with a Mininet Topo and a table `topos`, as `mn --custom` wants them."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mininet.topo import Topo

from hoplab.cluster.options import ClusterOptions
from hoplab.errors import InputError
from hoplab.kube.schema import nearest
from hoplab.net.machines import Machine

FOLDER = Path(__file__).resolve().parents[2] / "topologies"


def names() -> list[str]:
    """Topologies there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def build_topology(options: ClusterOptions) -> Topo:
    """The Topo for these options.  Raises InputError for an unknown name or a wrong number of nodes."""
    known = names()
    if options.topology not in known:
        hint = nearest(options.topology, known)
        raise InputError(f"no topology is called {options.topology!r}; there are {', '.join(known)}{hint}")
    maker = _load(options.topology)
    settings: dict[str, Any] = {
        "nodes": options.nodes,
        "way_out": "router" if options.mode == "passthrough" else "lb",
        "machines": [
            {"name": node.name, "address": _ipv4(node.addresses), "podCIDR": _ipv4(node.pod_cidrs)}
            for node in options.given_nodes
        ],
        "client_beside": options.client_beside,
        "ipv6": options.ipv6,
        "avoid": options.reserved
        | {a for node in options.given_nodes for a in (*node.addresses, *node.extra_addresses)},
    }
    try:
        return maker(host=Machine, **settings)
    except ValueError as error:
        raise InputError(str(error)) from error


def _ipv4(texts: Sequence[str]) -> str:
    """The first IPv4 one: Mininet's own addresses are of that family."""
    return next(text for text in texts if ":" not in text)


def _load(name: str) -> Any:
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"topologies.{name}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: can't be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = getattr(module, "topos", None)
    if not isinstance(table, dict) or not inspect.isclass(table.get(name)):
        raise InputError(f"{path}: expected a table `topos` with an entry {name!r}, as mn --custom wants it")
    return table[name]
