"""What goes when something else is gone: dependents of deleted owners, finalizers of deletion, namespaces.

An object names its owners by uid.  When all of them are gone it is deleted (in the background).
An owner that is deleted in the foreground waits, marked, until dependents that block it are gone;
one that is deleted with `orphan` first has itself taken out of its dependents.  A namespace that is
being deleted takes everything in it along and then goes itself.

Source: pkg/controller/garbagecollector/garbagecollector.go (attemptToDeleteItem, processDeletingDependentsItem,
attemptToOrphan), pkg/controller/namespace/deletion/namespaced_resources_deleter.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hoplab.kube.deletion import FOREGROUND, ORPHAN
from hoplab.kube.objects import KubeObject


@dataclass(frozen=True, slots=True)
class Garbage:
    """What to delete (in the background; `foreground` those whose own dependents must go first), and what to write."""

    delete: tuple[KubeObject, ...]
    foreground: tuple[KubeObject, ...]
    update: tuple[KubeObject, ...]


def collect(objects: Sequence[KubeObject]) -> Garbage:
    """What the garbage collector and the namespace controller do now; `objects` are all that there are (pure)."""
    alive = {obj.meta.uid: obj for obj in objects}
    dependents: dict[str, list[KubeObject]] = {}
    for obj in objects:
        for reference in obj.metadata.get("ownerReferences") or ():
            dependents.setdefault(reference["uid"], []).append(obj)
    delete: list[KubeObject] = []
    foreground: list[KubeObject] = []
    update: dict[str, KubeObject] = {}
    for obj in objects:
        references = obj.metadata.get("ownerReferences") or ()
        if references and not obj.deleting:
            solid = [r for r in references if _solid(alive.get(r["uid"]))]
            waiting = [r for r in references if _waiting(alive.get(r["uid"])) and r.get("blockOwnerDeletion")]
            if not solid and waiting and obj.meta.uid in dependents:
                foreground.append(obj)
            elif not solid and all(r["uid"] not in alive or _waiting(alive[r["uid"]]) for r in references):
                delete.append(obj)
            elif len(solid) < len(references) and all(r["uid"] not in alive or r in solid for r in references):
                update[obj.meta.uid] = obj.relabelled(ownerReferences=solid)
        finalizers = obj.metadata.get("finalizers") or ()
        if obj.deleting and ORPHAN in finalizers:
            for one in dependents.get(obj.meta.uid, ()):
                kept = [r for r in one.metadata["ownerReferences"] if r["uid"] != obj.meta.uid]
                update[one.meta.uid] = one.relabelled(ownerReferences=kept or None)
            if not any(one.meta.uid in update for one in dependents.get(obj.meta.uid, ())):
                update[obj.meta.uid] = _without(obj, ORPHAN)
        elif obj.deleting and FOREGROUND in finalizers:
            blocking = [
                one
                for one in dependents.get(obj.meta.uid, ())
                if any(
                    r["uid"] == obj.meta.uid and r.get("blockOwnerDeletion") for r in one.metadata["ownerReferences"]
                )
            ]
            if not blocking:
                update[obj.meta.uid] = _without(obj, FOREGROUND)
    delete += [obj for obj in _of_ending_namespaces(objects) if obj not in delete]
    return Garbage(tuple(delete), tuple(foreground), tuple(update.values()))


def _solid(owner: KubeObject | None) -> bool:
    """An owner that is there and is not waiting for its dependents to go."""
    return owner is not None and not _waiting(owner)


def _waiting(owner: KubeObject | None) -> bool:
    return owner is not None and owner.deleting and FOREGROUND in (owner.metadata.get("finalizers") or ())


def _without(obj: KubeObject, finalizer: str) -> KubeObject:
    kept = [each for each in obj.metadata.get("finalizers") or () if each != finalizer]
    return obj.relabelled(finalizers=kept or None)


def _of_ending_namespaces(objects: Iterable[KubeObject]) -> list[KubeObject]:
    ending = {obj.meta.name for obj in objects if obj.kind == "Namespace" and obj.deleting}
    return [obj for obj in objects if obj.meta.namespace in ending and not obj.deleting] if ending else []


def empty_namespaces(objects: Sequence[KubeObject]) -> list[KubeObject]:
    """Namespaces that are being deleted and hold nothing any more (Events aside)."""
    ending = [obj for obj in objects if obj.kind == "Namespace" and obj.deleting]
    if not ending:
        return []
    full = {obj.meta.namespace for obj in objects if obj.kind != "Event"}
    return [obj for obj in ending if obj.meta.name not in full and not obj.metadata.get("finalizers")]
