"""Addons: objects that a cluster gets beside those of its user, by one name, in the namespace kube-system.

An addon is a manifest in this folder and a line in the table below; whoever switches it
on applies its objects, whoever switches it off deletes them.  What they bring to life is
nothing special: workloads and Services like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hoplab.errors import InputError
from hoplab.kube.load import load_files
from hoplab.kube.objects import Loaded

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Addon:
    """One addon: its name, what it is for, and the file of its objects."""

    name: str
    purpose: str
    file: Path


ADDONS: Mapping[str, Addon] = {
    each.name: each
    for each in (
        Addon("ingress", "an nginx ingress controller, and a backend that answers 404", FOLDER / "ingress.yaml"),
        Addon("dns", "a name server that knows Services, endpoints and pods by name", FOLDER / "dns.yaml"),
    )
}
"""What there is, by name, in the order in which it is listed."""


def find(name: str) -> Addon:
    """An addon by its name.  Raises InputError that lists those there are."""
    if name not in ADDONS:
        raise InputError(f"no addon is called {name!r}; there are: {', '.join(ADDONS)}")
    return ADDONS[name]


def objects(names: Iterable[str]) -> Loaded:
    """The objects of these addons, in this order.  Raises InputError for a name that is none."""
    files = [find(name).file for name in names]
    return load_files(files) if files else Loaded(())
