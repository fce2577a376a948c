"""Changes under load: the cluster follows its store while real clients go on asking, and every request is counted.

The clients are a program of their own in the sender's namespace (hoplab.probe.loadgen).  Meanwhile
only the sender is observed: what became of a request is known there, by its answer or by the
refusal that came instead; the frames of hundreds of requests a second on every other interface
would say it once more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hoplab.cluster.following import Follower
from hoplab.errors import HoplabError
from hoplab.hops.evidence import Frame
from hoplab.hops.packet import read_frame
from hoplab.kube.load import load
from hoplab.kube.objects import KubeObject
from hoplab.scenario.ends import Destination
from hoplab.scenario.lab import Lab
from hoplab.watch.watched import Target

PROGRAM = Path(__file__).resolve().parents[1] / "probe" / "loadgen.py"
RST = 4
RULES_S = 30.0
MANY_FRAMES = 8192
"""What a load sends while the lab's own loop is busy with making pods."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the load: times in seconds since 1970, `outcome` 'answered' or what came instead."""

    started_s: float
    took_s: float
    outcome: str
    pod: str
    port: int

    @property
    def failed(self) -> bool:
        """Whether no answer with status 200 came."""
        return self.outcome != "answered"


class Load:
    """What became of a load: empty until it has ended."""

    def __init__(self) -> None:
        self.requests: tuple[Request, ...] = ()
        self.refusals: dict[int, int] = {}
        """The sender's port -> number of the frame that refused a connection from it."""

    @property
    def failed(self) -> list[Request]:
        """Requests without an answer."""
        return [each for each in self.requests if each.failed]

    @property
    def pods(self) -> Counter[str]:
        """How many answers each pod gave."""
        return Counter(each.pod for each in self.requests if not each.failed)

    @property
    def words(self) -> str:
        """Counts as text."""
        ways = Counter(each.outcome for each in self.failed)
        failed = "; ".join(f"{outcome}: {count}" for outcome, count in sorted(ways.items()))
        return f"{len(self.failed)} of {len(self.requests)} requests failed" + (f" ({failed})" if failed else "")

    @property
    def evidence(self) -> list[str]:
        """The frames that refused requests, and when failures were."""
        frames = [f"frame {self.refusals[each.port]}" for each in self.failed if each.port in self.refusals]
        if not self.failed:
            return []
        first = self.requests[0].started_s
        span = f"failures from {self.failed[0].started_s - first:.2f} s to {self.failed[-1].started_s - first:.2f} s"
        return [span, *frames[:8], *(["..."] if len(frames) > 8 else [])]

    @property
    def silence_s(self) -> float:
        """The longest time without an answer, from the first request to the end of the last."""
        if not self.requests:
            return 0.0
        ends = sorted(each.started_s + each.took_s for each in self.requests if not each.failed)
        last = max(each.started_s + each.took_s for each in self.requests)
        times = [self.requests[0].started_s, *ends, last]
        return max(later - earlier for earlier, later in pairwise(times))


class Following:
    """A lab whose cluster follows its store."""

    def __init__(self, lab: Lab, follower: Follower) -> None:
        self._lab, self._follower = lab, follower

    def apply(self, text: str) -> None:
        """Apply objects written as YAML; the controllers follow by themselves.  Raises ManifestError."""
        self._lab.cluster.apply(load(text, "<applied by the script>").objects)

    def until(self, what: str, condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Let the lab run until the condition holds.  Raises DeadlinePassed naming `what`."""
        self._lab.observer.run_until(condition, deadline_s, what)

    def rolled_out(self, deployment: str, namespace: str = "default") -> None:
        """Wait until a Deployment is what was asked for, and the pods that it replaced are gone."""
        store = self._lab.cluster.store

        def done() -> bool:
            obj = store.get("Deployment", deployment, namespace)
            wanted, status = obj.spec["replicas"], obj.status
            counts = [status.get(f"{each}eplicas", 0) for each in ("r", "updatedR", "availableR")]
            current = status.get("observedGeneration") == obj.metadata["generation"]
            return current and counts == [wanted] * 3 and not self._leaving(namespace)

        self.until(f"Deployment {deployment} to be rolled out", done)

    def _leaving(self, namespace: str) -> list[KubeObject]:
        pods = self._lab.cluster.store.each("Pod")
        return [pod for pod in pods if pod.deleting and pod.meta.namespace == namespace]


@contextmanager
def following(lab: Lab, rules_lag_s: float = 0.0) -> Iterator[Following]:
    """Have the cluster follow its store for a while; what is new then is observed at the end.

    `rules_lag_s`: how long the news of a change takes to the kube-proxies.  News that is under way at the end arrives
    before the block is left.  Raises DeadlinePassed when it does not.
    """
    cluster = lab.cluster
    follower = cluster.follow(rules_lag_s)
    try:
        yield Following(lab, follower)
        lab.observer.run_until(lambda: follower.caught_up, RULES_S + rules_lag_s, "the rules to follow the last change")
    finally:
        follower.close()
        lab.watch_new()


@contextmanager
def under_load(
    lab: Lab,
    sender: str,
    to: object,
    port: int = 0,
    *,
    path: str = "/",
    workers: int = 4,
    every_s: float = 0.04,
    timeout_s: float = 1.0,
) -> Iterator[Load]:
    """Requests from a namespace, `workers` at once, each one in `every_s` seconds, until the block ends.

    Raises HoplabError when the program that makes them fails.
    """
    where, found = lab.destination(to, port), Load()
    with only_watching(lab, [sender]):
        since = lab.observer.mark()
        numbers = [str(each) for each in (where.port, path, workers, every_s, timeout_s)]
        argv = [sys.executable, "-I", "-S", str(PROGRAM), where.address, *numbers]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = lab.namespaces[sender].popen(argv, **pipes)
        try:
            yield found
        finally:
            told, complaint = program.communicate(timeout=30)
        if program.returncode != 0:
            raise HoplabError(f"the load from {sender} ended with {program.returncode}: {complaint.strip()[-500:]}")
        found.requests = tuple(Request(*each) for each in json.loads(told))
        lab.observer.quiesce()
        found.refusals = _refusals(sender, where, lab.observer.evidence(since).frames)


def _refusals(sender: str, where: Destination, frames: Sequence[Frame]) -> dict[int, int]:
    """Ports of the sender that got an RST or an ICMP error from the address that was asked."""
    found: dict[int, int] = {}
    for frame in frames:
        packet = read_frame(frame.data) if frame.node == sender and frame.direction == "in" else None
        if packet is None:
            continue
        if packet.quoted is not None and packet.quoted.dst == where.address:
            found.setdefault(packet.quoted.sport, frame.number)
        elif packet.src == where.address and packet.protocol_name == "tcp" and packet.flags & RST:
            found.setdefault(packet.dport, frame.number)
    return found


@contextmanager
def only_watching(lab: Lab, names: Sequence[str]) -> Iterator[None]:
    """Observe only these namespaces for a while, with room for the frames of a load."""
    watched = {name: lab.namespaces[name] for name in names}
    for name in list(lab.namespaces):
        lab.observer.remove(name)
        del lab.namespaces[name]
    lab.observer.add([Target(namespace, slots=MANY_FRAMES) for namespace in watched.values()])
    lab.namespaces.update(watched)
    try:
        yield
    finally:
        for name in names:
            lab.observer.remove(name)
            del lab.namespaces[name]
        lab.watch_new()
