"""Addons: parts of the cluster that can be switched on and off, as minikube has them.

Each is a maker in the table below; what it makes lives as long as it is enabled.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from hoplab.errors import InputError
from hoplab.labs.protocol import Addons
from hoplab.labs.running import RunningLab


class Addon(Protocol):
    """What a module of the table has."""

    def enable(self, lab: RunningLab) -> None:
        """Bring it into the cluster; returns when it serves."""

    def disable(self, lab: RunningLab) -> None:
        """Take it out of the cluster."""


ADDONS: Mapping[str, str] = {}
"""Addon -> the module that is it."""


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """These addons, each once.  Raises InputError with the nearest name."""
    return tuple(dict.fromkeys(_known(name.strip()) for name in names))


def _known(name: str) -> str:
    if name in ADDONS:
        return name
    near = difflib.get_close_matches(name, ADDONS, 1, 0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"no addon is called {name!r}.{hint} There are: {', '.join(ADDONS) or 'none'}")


def asked(lab: RunningLab, request: Addons) -> list[list[object]]:
    """Do what a request says; the addons there are, each with whether it is enabled.  Raises InputError."""
    if request.action not in ("list", "enable", "disable"):
        raise InputError(f"expected list, enable or disable, found {request.action!r}")
    if request.action == "enable":
        enable(lab, request.name)
    elif request.action == "disable":
        name = _known(request.name)
        if name in lab.addons:
            _addon(name).disable(lab)
            lab.addons.remove(name)
    return [[name, name in lab.addons] for name in sorted(ADDONS)]


def enable(lab: RunningLab, name: str) -> None:
    """Bring an addon into the cluster; one that is there already is fine.  Raises InputError."""
    if _known(name) not in lab.addons:
        _addon(name).enable(lab)
        lab.addons.append(name)


def _addon(name: str) -> Addon:
    found: Addon = importlib.import_module(ADDONS[name])
    return found
