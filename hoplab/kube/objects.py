"""An object as it was applied: whole document, current API version, where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hoplab.kube.types import ObjectMeta, Origin


@dataclass(frozen=True, slots=True)
class KubeObject:
    """One Kubernetes object.  `document` is in the current version of its API, with the API's defaults."""

    api_version: str
    kind: str
    meta: ObjectMeta
    document: Mapping[str, Any] = field(repr=False)
    origin: Origin
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict, repr=False)
    """Line of each path of the document, where it came from a file."""

    @property
    def key(self) -> tuple[str, str, str]:
        """kind, namespace, name."""
        return (self.kind, self.meta.namespace, self.meta.name)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What manifests held, and what their writer should know about them."""

    objects: tuple[KubeObject, ...]
    warnings: tuple[str, ...] = ()

    def of(self, *kinds: str) -> list[KubeObject]:
        """The objects of these kinds, in order."""
        return [each for each in self.objects if each.kind in kinds]
