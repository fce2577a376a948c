"""Deleting as a client asks for it: options from body and query, preconditions, dry runs, and the answer.

What deleting means (grace, finalizers, dependents) is hoplab.kube.deletion's.  An object that
is gone at once is answered with a Status, one that waits with itself.
Source: meta/v1's DeleteOptions and apiserver's pkg/endpoints/handlers/delete.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from hoplab.api import status
from hoplab.api.bodies import Body
from hoplab.api.registry import Answer, Registry, Target, served
from hoplab.kube import deletion
from hoplab.kube import store as kube_store
from hoplab.kube.deletion import Propagation

_POLICIES: tuple[Propagation, ...] = get_args(Propagation)
_LASTING = ("default", "kube-system", "kube-public", "kube-node-lease")
"""Namespaces that are always there."""
_SHOWN_LAST = ("Pod", "Service", "ServiceAccount")
"""Kinds of which a deletion answers with the object as it last was (ReturnDeletedObject)."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """meta/v1 DeleteOptions, from the body and the query; grace in seconds, None where nothing is said."""

    dry_run: bool = False
    grace: int | None = None
    policy: Propagation | None = None
    uid: str = ""
    resource_version: str = ""


def options(body: Body | None, query: Mapping[str, str]) -> DeleteOptions:
    """The options of a request; the query counts where the body says nothing.  Raises ApiError (400, 422)."""
    data = body.data if body is not None else {}
    if not isinstance(data, Mapping):
        raise status.bad_request("expected DeleteOptions")
    given: dict[str, Any] = {key: query[key] for key in ("gracePeriodSeconds", "propagationPolicy") if key in query}
    given |= {key: value for key, value in data.items() if value is not None}
    try:
        grace = int(given["gracePeriodSeconds"]) if "gracePeriodSeconds" in given else None
    except (TypeError, ValueError) as error:
        raise status.bad_request(
            f"gracePeriodSeconds: expected a number, found {given['gracePeriodSeconds']}"
        ) from error
    policy = given.get("propagationPolicy") or None
    if "orphanDependents" in given or query.get("orphanDependents"):
        orphan = given.get("orphanDependents", query.get("orphanDependents") == "true")
        policy = policy or ("Orphan" if orphan else "Background")
    if policy is not None and policy not in _POLICIES:
        listed = ", ".join(f'"{each}"' for each in (*_POLICIES, "nil"))
        problem = ("propagationPolicy", f'Unsupported value: "{policy}": supported values: {listed}')
        raise status.invalid("DeleteOptions", "meta.k8s.io", "", [problem])
    preconditions = given.get("preconditions") or {}
    if not isinstance(preconditions, Mapping):
        raise status.bad_request("preconditions: expected an object")
    dry = bool(given.get("dryRun")) or bool(query.get("dryRun"))
    uid, version = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
    return DeleteOptions(dry, grace, policy, str(uid), str(version))


def delete(registry: Registry, target: Target, wanted: DeleteOptions) -> Answer:
    """DELETE of one object: a Status when it is gone, the object itself when it waits.  Raises ApiError."""
    obj = registry.get(target)
    metadata = obj.metadata
    if obj.kind == "Namespace" and target.name in _LASTING:
        raise status.forbidden(target.about, "this namespace may not be deleted")
    if wanted.uid and wanted.uid != metadata["uid"]:
        why = f"UID in precondition: {wanted.uid}, UID in object meta: {metadata['uid']}"
        raise status.conflict(target.about, f"Precondition failed: {why}")
    if wanted.resource_version and wanted.resource_version != metadata["resourceVersion"]:
        theirs = f"ResourceVersion in object meta: {metadata['resourceVersion']}"
        why = f"ResourceVersion in precondition: {wanted.resource_version}, {theirs}"
        raise status.conflict(target.about, f"Precondition failed: {why}")
    gone = True
    if not wanted.dry_run:
        try:
            obj, gone = deletion.delete(
                registry.store,
                obj.kind,
                obj.meta.name,
                obj.meta.namespace,
                now=registry.now().timestamp(),
                grace=wanted.grace,
                propagation=wanted.policy,
                uid=metadata["uid"],
            )
        except kube_store.NotFound as error:
            raise status.not_found(target.about) from error
        except kube_store.Conflict as error:
            raise status.conflict(target.about, str(error)) from error
    if obj.kind in _SHOWN_LAST or not gone:
        return Answer(200, served(obj, target.resource))
    return Answer(200, status.success(status.subject(target.resource, obj.meta.name, metadata["uid"])))
