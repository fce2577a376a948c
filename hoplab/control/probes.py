"""How the answers of a probe become a verdict: so many in a row it takes to change it.

Source: pkg/kubelet/prober/worker.go (doProbe).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

FAILURES_THAT_TELL = 3
"""What just starts fails once or twice whatever its threshold; after so many nobody waits for it any more."""
Kind = Literal["readiness", "liveness", "startup"]


@dataclass(frozen=True, slots=True)
class Timing:
    """A probe's numbers, defaulted; times in seconds."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> Timing:
        """From a container's probe."""
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe says so far.  `good` None: nothing yet (only a startup probe begins so)."""

    good: bool | None
    last: bool | None = None
    row: int = 0
    """How often the last answer came in a row."""
    decided: bool = False
    """Whether answers enough have come to go by: a success, or failures enough that more are to be expected."""

    @classmethod
    def begin(cls, kind: Kind) -> Verdict:
        """Before the first answer: alive, not ready, not known to have started."""
        return cls({"readiness": False, "liveness": True, "startup": None}[kind])

    def heard(self, answer: bool, timing: Timing) -> Verdict:
        """The verdict after one more answer."""
        row = self.row + 1 if answer == self.last else 1
        enough = row >= (timing.successes if answer else timing.failures)
        known = enough and (answer or row >= FAILURES_THAT_TELL)
        return replace(self, good=answer if enough else self.good, last=answer, row=row, decided=self.decided or known)
