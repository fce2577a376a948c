"""The later half of a run: observe, have the script act, judge, and leave the evidence behind.

A fault of the script is told with its file and line; a run that saw too little (a
lost frame, a full buffer) says so and does not pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hoplab.cluster.cluster import Cluster
from hoplab.errors import HoplabError, InputError
from hoplab.hops.evidence import Evidence
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed
from hoplab.net.zygote import SpawnFailed
from hoplab.probe.crafter import Crafter
from hoplab.probe.prober import Prober
from hoplab.report.annotate import frame_comments, section_comments
from hoplab.report.leaving import leave
from hoplab.report.pcapng import write_pcapng
from hoplab.report.run import Explain, RunReport, all_hold, explain_by
from hoplab.report.spread import spreads
from hoplab.scenario import scripts
from hoplab.scenario.drawing import options_of, topology_of
from hoplab.scenario.foretelling import Foreteller
from hoplab.scenario.inquiry import Inquiry
from hoplab.scenario.lab import Lab, target
from hoplab.scenario.notes import Note, silent
from hoplab.watch.observer import Observer


@dataclass(frozen=True, slots=True)
class Finished:
    """A run's report, and how rules are explained in it."""

    report: RunReport
    explain: Explain
    stay: Callable[[], None]
    """Gives Mininet's prompt in the lab as the run left it; returns when its user leaves."""


@dataclass(frozen=True, slots=True)
class Play:
    """What is played in a cluster: its name and kind ('scenario', 'check'), what it does, where its files go."""

    kind: str
    name: str
    act: Callable[[Lab], None]
    seed: int
    captures: Path
    note: Note = silent


@dataclass(frozen=True, slots=True)
class Played:
    """What a play came to: the report without files, how rules are explained in it, and all that was seen."""

    report: RunReport
    explain: Explain
    evidence: Evidence


def act(
    play: Play,
    cluster: Cluster,
    warnings: Sequence[str],
    crafter: Crafter,
    started: float,
    sabotage: Callable[[Lab], None] | None,
) -> Finished:
    """Play in a converged cluster, judge, and leave the files; `started` is when the run began (monotonic seconds)."""
    done = played(play, cluster, warnings, crafter, started, sabotage)

    def capture(path: Path) -> None:
        comments = frame_comments(done.report.flows, done.evidence.frames, done.explain)
        seen = done.evidence
        about = section_comments(play.kind, done.report, len(seen.frames))
        write_pcapng(path, seen.frames, seen.interfaces, comments, names(cluster), about)

    play.note("the files of the run")
    left = leave(done.report, play.captures / play.name, done.explain, capture)
    return Finished(left, done.explain, lambda: _stay(cluster))


def played(
    play: Play,
    cluster: Cluster,
    warnings: Sequence[str],
    crafter: Crafter,
    started: float,
    sabotage: Callable[[Lab], None] | None = None,
    *,
    leave_no_trace: bool = False,
) -> Played:
    """Play in a converged cluster and judge.

    `leave_no_trace`: the lab stays, so the instruments' own rules are taken out of its namespaces again.
    """
    namespaces = cluster.namespaces()
    with ExitStack() as watching:
        observer = watching.enter_context(Observer([target(ns) for ns in namespaces.values()]))
        if leave_no_trace:
            watching.callback(observer.stop_tracing)
        observer.register(cluster.loop.fileno(), lambda: _served(cluster))
        prober = Prober(observer, namespaces, play.seed, crafter=crafter)
        foreteller, inquiry = Foreteller(cluster), Inquiry(cluster)
        inquiry.counters.remember(namespaces.values())
        lab = Lab(cluster, observer, prober, play.seed, namespaces=namespaces, foreteller=foreteller, inquiry=inquiry)
        lab.note = play.note
        probing = time.monotonic()
        try:
            if sabotage is not None:
                sabotage(lab)
            play.act(lab)
        finally:
            prober.close(withdraw=leave_no_trace)
            foreteller.close()
            inquiry.close()
        if (agreement := foreteller.check()) is not None:
            lab.keep(agreement)
        play.note("all that was seen, joined")
        evidence = observer.evidence()
        timings = {**cluster.timings_s, "probe": time.monotonic() - probing}
    for loss in evidence.losses:
        words = f"{loss.lost} {loss.source} event(s) in {loss.node}: {loss.reason}"
        lab.check("nothing that was to be seen was lost", False, "no loss", words)
    timings["total"] = time.monotonic() - started
    passed = all_hold(lab.checks)
    told = tuple(lab.told) if passed else inquiry.told(lab.told)
    known = names(cluster)
    report = RunReport(
        scenario=play.name,
        passed=passed,
        seed=play.seed,
        timings_s=timings,
        checks=inquiry.explained(lab.checks, told),
        flows=told,
        reasons=tuple(inquiry.of_run.values()),
        losses=evidence.losses,
        problems=(
            *warnings,
            *cluster.warnings,
            *cluster.containers.faults(),
            *(cluster.balancer.warnings if cluster.balancer else ()),
            *(f"not foretold: {why}" for why in foreteller.unforeseen),
        ),
        started_at=time.time() - timings["total"],
        options=options_of(cluster),
        topology=topology_of(cluster, known),
        spread=spreads(lab.flows, cluster.nodes),
    )
    return Played(report, explain_by(cluster.object_of()), evidence)


def _stay(cluster: Cluster) -> None:
    """Mininet's own prompt: `node1 iptables -t nat -nL`, `client curl ...`, `exit`; meanwhile the lab's loop works."""
    from hoplab.net.prompt import Prompt, greeting

    prompt = Prompt(cluster.net)
    prompt.open(greeting(cluster.met_at()))
    left: list[bool] = []
    cluster.loop.register(prompt.fileno(), lambda: left.append(True))
    while not left:
        cluster.loop.poll(None)


def _served(cluster: Cluster) -> None:
    cluster.loop.poll(0)


def act_script(script: scripts.Script, lab: Lab) -> None:
    """Run a scenario script.  Raises InputError with file and line for whatever it raises itself."""
    try:
        script.run(lab)
    except HoplabError as error:
        raise type(error)(f"{scripts.where(error, script.path)}: {error}") from error
    except (CommandFailed, SpawnFailed, DeadlinePassed):
        raise
    except KeyboardInterrupt as error:
        # Whoever ends a script that waits for ever wants to know what it waited at.
        raise KeyboardInterrupt(f"at {scripts.where(error, script.path)}") from error
    except (Exception, SystemExit) as error:
        if scripts.by_signal(error):
            raise
        if isinstance(error, OSError) and not scripts.raised_by(error, script.path):
            # Something of the lab did not answer: what the script asked for was right.
            raise HoplabError(f"{scripts.where(error, script.path)}: {type(error).__name__}: {error}") from error
        # A script is the user's code: whatever it raises is told with its own line, never as our traceback.
        raise InputError(f"{scripts.where(error, script.path)}: {type(error).__name__}: {error}") from error


def names(cluster: Cluster) -> Mapping[str, list[str]]:
    """Address -> names, for readers of the capture: machines, pods, Services."""
    found: dict[str, list[str]] = {}
    for machine in cluster.net.hosts:
        for _interface, address, _prefix in machine.netlink.addresses():
            if address and not address.startswith(("127.", "::1", "fe80:")):
                found.setdefault(address, []).append(machine.name)
    for running in cluster.running():
        for ip in running.ips:
            found.setdefault(ip, []).append(running.namespace.name)
    for service in cluster.objects.services.values():
        for ip in (*service.cluster_ips, *(ingress.ip for ingress in service.load_balancer_ingress)):
            if ip != "None":
                found.setdefault(ip, []).append(f"svc/{service.meta.name}")
    return found
