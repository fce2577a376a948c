"""What a controller wants done, and the small words that all of them share: owners, conditions, names.

A controller looks at an object and at what it owns, and answers with a Plan; somebody else
carries it out.  So every decision can be tried on plain data, and the same seed gives the
same names.

Source: apimachinery's pkg/apis/meta/v1/controller_ref.go and pkg/util/rand, pkg/controller/controller_utils.go.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hoplab.kube.clock import timestamp
from hoplab.kube.objects import KubeObject

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes: k8s.io/apimachinery/pkg/util/rand."""
LONGEST_BASE = 58
"""Of a generated name 63 characters may be used; five are the random ones."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that `kubectl get events` shall tell: `about` is the object, `reason` one word."""

    about: KubeObject
    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes to make.

    `again_in`: seconds after which time alone will have changed something, None for never.  `settles_in`: the same
    where that is a step forward (a pod that becomes available), and not a deadline that may pass.
    """

    create: tuple[KubeObject, ...] = ()
    update: tuple[KubeObject, ...] = ()
    delete: tuple[KubeObject, ...] = ()
    notes: tuple[Note, ...] = ()
    again_in: float | None = None
    settles_in: float | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do now."""
        return bool(self.create or self.update or self.delete)


@dataclass(slots=True)
class Draft:
    """A Plan while it is being made."""

    create: list[KubeObject] = field(default_factory=list)
    update: list[KubeObject] = field(default_factory=list)
    delete: list[KubeObject] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    again_in: float | None = None
    settles_in: float | None = None

    def note(self, about: KubeObject, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell something."""
        self.notes.append(Note(about, reason, message, warning))

    def wake(self, seconds: float | None, *, deadline: bool = False) -> None:
        """Look again after this time, or earlier; `deadline`: nothing gets better by waiting for it."""
        if seconds is None:
            return
        self.again_in = seconds if self.again_in is None else min(self.again_in, seconds)
        if not deadline:
            self.settles_in = seconds if self.settles_in is None else min(self.settles_in, seconds)

    def done(self) -> Plan:
        """The Plan."""
        return Plan(
            tuple(self.create),
            tuple(self.update),
            tuple(self.delete),
            tuple(self.notes),
            self.again_in,
            self.settles_in,
        )


def suffix(chance: random.Random) -> str:
    """Five letters, as the API server appends them to a generateName."""
    return "".join(chance.choice(SUFFIX_LETTERS) for _ in range(5))


def fresh_name(base: str, taken: Iterable[str], chance: random.Random) -> str:
    """base and five letters that nobody has yet."""
    names = set(taken)
    while True:
        name = f"{base[:LONGEST_BASE]}{suffix(chance)}"
        if name not in names:
            return name


def stable_suffix(text: str) -> str:
    """Five letters made from an identity: the same whenever it is asked for."""
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(SUFFIX_LETTERS[byte % len(SUFFIX_LETTERS)] for byte in digest[:5])


def template_hash(template: Mapping[str, Any], collisions: int = 0) -> str:
    """A short name for a pod template: equal templates have equal ones.

    Kubernetes hashes Go's memory layout, which nobody else can; length and letters are the same
    (a 32-bit number in decimal, each digit as a letter: rand.SafeEncodeString).
    """
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (str(collisions) if collisions else "")
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return "".join(SUFFIX_LETTERS[ord(digit) % len(SUFFIX_LETTERS)] for digit in str(number))


def owner_reference(owner: KubeObject, *, blocks: bool = True) -> dict[str, Any]:
    """What a controller writes into what it makes."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.meta.name,
        "uid": owner.meta.uid,
        "controller": True,
        "blockOwnerDeletion": blocks,
    }


def controller_of(obj: KubeObject) -> Mapping[str, Any] | None:
    """The owner reference of its controller, None when nobody controls it."""
    for reference in obj.metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            found: Mapping[str, Any] = reference
            return found
    return None


def condition(conditions: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The condition of that type."""
    return next((each for each in conditions if each.get("type") == kind), None)


def with_condition(
    conditions: Sequence[Mapping[str, Any]],
    kind: str,
    status: bool | str,
    now: float,
    reason: str = "",
    message: str = "",
    **more: Any,
) -> list[Mapping[str, Any]]:
    """The conditions with that one set; its lastTransitionTime moves only when its status changes."""
    text = status if isinstance(status, str) else ("True" if status else "False")
    before = condition(conditions, kind)
    since = before["lastTransitionTime"] if before and before.get("status") == text else timestamp(now)
    made = {"type": kind, "status": text, "lastTransitionTime": since}
    made |= {key: value for key, value in (("reason", reason), ("message", message)) if value}
    made |= more
    if before is None:
        return [*conditions, made]
    return [made if each is before else each for each in conditions]


def without_condition(conditions: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """The conditions but that one."""
    return [each for each in conditions if each.get("type") != kind]


def amount(value: int | str | None, total: int, *, up: bool) -> int:
    """A number, or a percentage of `total` rounded up or down (intstr.GetScaledValueFromIntOrPercent)."""
    if isinstance(value, str):
        whole = int(value.rstrip("%")) * total
        return -(-whole // 100) if up else whole // 100
    return int(value or 0)


def written_number(text: str | None) -> int:
    """A whole number that stands in an annotation, which anybody may write; 0 when it is none."""
    return int(text) if text and re.fullmatch(r"[+-]?\d{1,10}", text) else 0
