"""The probes of one container while it runs: asked period by period, their verdicts told to its pod's worker.

As long as a startup probe has not succeeded the others wait.  Readiness moves the pod in and
out of its Services; liveness and startup probes that fail often enough have it restarted.

Source: pkg/kubelet/prober/{worker,prober_manager}.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hoplab.cluster.handlers import Handlers, Handling
from hoplab.control.probes import Kind, Timing, Verdict
from hoplab.kube.types import Container
from hoplab.net.timers import Timer, Timers

if TYPE_CHECKING:
    from hoplab.cluster.podworker import PodWorker

KINDS: tuple[Kind, ...] = ("startup", "readiness", "liveness")


class Prober:
    """All probes of one run of a container."""

    def __init__(self, worker: PodWorker, container: Container, handlers: Handlers, timers: Timers) -> None:
        self._worker, self._container = worker, container
        given: dict[Kind, Any] = {kind: container.document.get(f"{kind}Probe") for kind in KINDS}
        self._probes = {
            kind: _Probe(self, kind, probe, handlers, timers) for kind, probe in given.items() if probe is not None
        }
        first = "startup" in self._probes
        for kind, probe in self._probes.items():
            if kind == "startup" or not first:
                probe.begin()

    @property
    def decided(self) -> bool:
        """Whether it is known if the container is ready: by success, or by failures enough."""
        startup, readiness = self._probes.get("startup"), self._probes.get("readiness")
        if startup is not None and not startup.verdict.good:
            return False
        return readiness is None or readiness.verdict.decided

    def stop(self) -> None:
        """Ask no more."""
        for probe in self._probes.values():
            probe.stop()

    def heard(self, kind: Kind, before: Verdict, now: Verdict, told: str) -> None:
        """A probe was answered."""
        name = self._container.name
        failed = now.last is False
        lost = failed and now.good is False
        if failed and (kind != "startup" or not before.good):
            self._worker.unhealthy(name, kind, told, restart=lost and kind != "readiness")
        if kind == "readiness" and before.good != now.good:
            self._worker.set_ready(name, bool(now.good))
        if kind == "startup" and now.good:
            self._probes["startup"].stop()
            self._worker.set_started(name)
            for other, probe in self._probes.items():
                if other != "startup":
                    probe.begin(at_once=True)


class _Probe:
    """One probe: a timer, and at most one question under way."""

    def __init__(self, prober: Prober, kind: Kind, probe: Any, handlers: Handlers, timers: Timers) -> None:
        self._prober, self._kind, self._action = prober, kind, probe
        self._handlers, self._timers = handlers, timers
        self._timing = Timing.of(probe)
        self.verdict = Verdict.begin(kind)
        self._timer: Timer | None = None
        self._asking: Handling | None = None
        self._stopped = False

    def begin(self, *, at_once: bool = False) -> None:
        """Ask for the first time after initialDelaySeconds."""
        self._timer = self._timers.after(0 if at_once else self._timing.initial_delay, self._ask)

    def stop(self) -> None:
        """Ask no more, and want no answer any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.give_up()

    def _ask(self) -> None:
        if self._stopped:
            return
        self._timer = self._timers.after(self._timing.period, self._ask)
        if self._asking is not None and not self._asking.finished:
            return  # The last question is still open: its own time limit ends it.
        worker, container = self._prober._worker, self._prober._container
        self._asking = self._handlers.run(worker, container, self._action, self._timing.timeout, self._answered)

    def _answered(self, good: bool, told: str) -> None:
        if self._stopped:
            return
        before = self.verdict
        self.verdict = before.heard(good, self._timing)
        self._prober.heard(self._kind, before, self.verdict, told)
