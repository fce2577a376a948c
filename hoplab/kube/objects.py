"""An object as it was applied: whole document, current API version, where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.types import ObjectMeta, Origin

INLINE = Origin("<inline>")


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

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The document's metadata."""
        found: Mapping[str, Any] = self.document["metadata"]
        return found

    @property
    def spec(self) -> Mapping[str, Any]:
        """The document's spec, empty when it has none."""
        found: Mapping[str, Any] = self.document.get("spec") or {}
        return found

    @property
    def status(self) -> Mapping[str, Any]:
        """The document's status, empty when it has none."""
        found: Mapping[str, Any] = self.document.get("status") or {}
        return found

    @property
    def deleting(self) -> bool:
        """Whether it is marked for deletion."""
        return bool(self.metadata.get("deletionTimestamp"))

    def changed(self, **parts: Any) -> KubeObject:
        """The object with these parts of its document replaced (metadata, spec, status, ...)."""
        document = {**self.document, **parts}
        meta = meta_of(document) if "metadata" in parts else self.meta
        return replace(self, document=document, meta=meta)

    def relabelled(self, **parts: Any) -> KubeObject:
        """The object with these fields of its metadata replaced; None takes a field away."""
        metadata = {**self.metadata, **parts}
        return self.changed(metadata={key: value for key, value in metadata.items() if value is not None})


def meta_of(document: Mapping[str, Any]) -> ObjectMeta:
    """The metadata that anything in the lab reads, of a valid document."""
    meta = document.get("metadata") or {}
    return ObjectMeta(
        meta["name"],
        "" if document["kind"] in CLUSTER_SCOPED else meta.get("namespace") or "default",
        meta.get("uid") or "",
        dict(meta.get("labels") or {}),
        dict(meta.get("annotations") or {}),
    )


def object_of(document: Mapping[str, Any], origin: Origin = INLINE) -> KubeObject:
    """A document that the lab itself wrote, valid and with its defaults, as an object."""
    return KubeObject(document["apiVersion"], document["kind"], meta_of(document), document, origin)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What manifests held, and what their writer should know about them."""

    objects: tuple[KubeObject, ...]
    warnings: tuple[str, ...] = ()

    def of(self, *kinds: str) -> list[KubeObject]:
        """The objects of these kinds, in order."""
        return [each for each in self.objects if each.kind in kinds]
