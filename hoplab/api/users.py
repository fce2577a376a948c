"""Who asks, and what he may do: the lab's own user everything, whom he impersonates next to nothing.

There is one token, and who has it is `hoplab-admin` of the group system:masters.  With `--as` he asks as
somebody else, as a cluster's administrator may; nobody has bound a role to that somebody, so he may do
what every user of a new cluster may: look at discovery, and ask who he is and what he may do.
Source: apiserver's pkg/endpoints/filters/impersonation.go, pkg/endpoints/handlers/responsewriters/errors.go,
and the bootstrap policy (system:basic-user, system:discovery).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hoplab.api import status
from hoplab.api.registry import Target

MASTERS, AUTHENTICATED = "system:masters", "system:authenticated"
ANONYMOUS, ACCOUNT = "system:anonymous", "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    """A name and the groups it is in."""

    name: str
    groups: tuple[str, ...]

    @property
    def almighty(self) -> bool:
        """Whether no rule is asked."""
        return MASTERS in self.groups

    def document(self) -> dict[str, Any]:
        """The userInfo of a review."""
        return {"username": self.name, "groups": list(self.groups)}


ADMIN = User("hoplab-admin", (MASTERS, AUTHENTICATED))


def asking(name: str, groups: Sequence[str]) -> User:
    """The user of a request with these headers Impersonate-User ("": none) and Impersonate-Group."""
    if not name:
        if groups:
            raise status.bad_request("requested [groups] without impersonating a user")
        return ADMIN
    given = list(groups)
    if name.startswith(ACCOUNT) and not given:
        namespace = name.removeprefix(ACCOUNT).partition(":")[0]
        given = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    everybody = "system:unauthenticated" if name == ANONYMOUS else AUTHENTICATED
    return User(name, tuple(given if everybody in given else [*given, everybody]))


def expect_allowed(user: User, verb: str, target: Target) -> None:
    """Raises ApiError (403) for what the user may not do."""
    if user.almighty or target.resource.virtual:
        return
    resource = target.resource
    which = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    why = f'User "{user.name}" cannot {verb} resource "{which}" in API group "{resource.group}" {where}'
    named = f'{resource.qualified} "{target.name}"' if target.name else resource.qualified
    raise status.ApiError(403, "Forbidden", f"{named} is forbidden: {why}", target.about)


def rules(user: User) -> Mapping[str, Any]:
    """The status of a SelfSubjectRulesReview."""
    if user.almighty:
        resources = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    else:
        own = {
            "authentication.k8s.io": ["selfsubjectreviews"],
            "authorization.k8s.io": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }
        resources = [{"verbs": ["create"], "apiGroups": [group], "resources": names} for group, names in own.items()]
        paths = [{"verbs": ["get"], "nonResourceURLs": [path]} for path in _OPEN]
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}


def is_open(path: str) -> bool:
    """Whether everybody may read a path."""
    return any(path == each or (each.endswith("*") and path.startswith(each[:-1])) for each in _OPEN)


_OPEN = ("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version")
"""What everybody may read."""
