"""Whether a container that ended is started again, and after which pause.

The first restart is at once; from the second one on the pause doubles, and begins anew when a
container ran well for a while.  Source: pkg/kubelet/container/helpers.go (ShouldContainerBeRestarted),
pkg/kubelet/kuberuntime (doBackOff).  The real pauses are 10 s to 5 minutes, forgotten after 10 minutes;
a lab has no time for that: 1 s to 10 s, forgotten after 20 s.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_PAUSE_S, LONGEST_PAUSE_S, FORGOTTEN_AFTER_S = 1.0, 10.0, 20.0


def restarted(policy: str, exit_code: int) -> bool:
    """Whether the pod's restartPolicy has the container start again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def pause(ends: Sequence[tuple[float, float]]) -> float:
    """Seconds to wait before the next start; `ends` are (started, finished) of all runs so far, oldest first."""
    quick = 0
    for started, finished in ends:
        quick = 0 if finished - started > FORGOTTEN_AFTER_S else quick + 1
    return 0.0 if quick <= 1 else min(FIRST_PAUSE_S * 2.0 ** (quick - 2), LONGEST_PAUSE_S)
