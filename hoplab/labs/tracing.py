"""`trace` in a running lab: send probes, watch every namespace meanwhile, tell their story as a scenario's is told.

The same observer, probes and joining as in a scenario run; the difference is what they
leave: a lab that stays keeps none of the instruments' rules.  The one check of a trace
is whether each probe was answered, as ping(8) has it.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hoplab.errors import InputError
from hoplab.labs.protocol import Trace
from hoplab.labs.running import RunningLab
from hoplab.labs.targets import Known, goal, parse
from hoplab.probe.result import Probe
from hoplab.report.run import Explain, RunReport
from hoplab.scenario.acting import Play, played
from hoplab.scenario.lab import Lab

_NOWHERE = Path()
"""Nothing is left behind in a file."""
PROTOCOLS = ("tcp", "udp", "icmp")
LAST_PORT = 65535
MOST = 1000
"""Probes of one trace: every frame of them is kept until the story is told."""


@dataclass(frozen=True, slots=True)
class Question:
    """From where to where, and how: the arguments of `lab.py trace`."""

    sender: str
    to: str
    namespace: str = "default"
    protocol: str = "tcp"
    count: int = 1
    size: int = 0
    """Least number of payload bytes."""
    source_port: int = 0
    """Of the first probe, the others count up; 0: ports that nobody used."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"trace {self.sender} {self.to}"


def trace(lab: RunningLab, request: Trace) -> dict[str, Any]:
    """Send and tell; the answer of a Trace request.  Raises InputError for a name that nothing has."""
    if request.transport not in PROTOCOLS or not 1 <= request.count <= MOST:
        found = f"{request.count} of {request.transport!r}"
        raise InputError(f"expected 1 to {MOST} probes of {', '.join(PROTOCOLS)}; found {found}")
    question = Question(
        request.sender, request.to, request.namespace, request.transport, request.count, request.size,
        request.source_port,
    )  # fmt: skip
    lab.traces += 1
    known = lab.known()
    started = time.monotonic()
    # The lab's seed and the number of the trace: the same lab, asked the same again, sends other ports and tokens.
    play = Play("trace", question.title, lambda inside: send(inside, question, known), lab.seed + lab.traces, _NOWHERE)
    done = played(play, lab.cluster, (), lab.crafter, started, leave_no_trace=True)
    timings = {name: seconds for name, seconds in done.report.timings_s.items() if name in ("probe", "total")}
    balancer = lab.cluster.balancer
    # What was wrong with the objects from the start was told then.
    known_already = {*lab.cluster.warnings, *(balancer.warnings if balancer is not None else ())}
    problems = tuple(each for each in done.report.problems if each not in known_already)
    report = replace(done.report, timings_s=timings, problems=problems)
    return {"text": told(report, done.explain, request), "passed": report.passed}


def send(lab: Lab, question: Question, known: Known) -> None:
    """Send the probes of a question, and check that each was answered.  Raises InputError."""
    if question.source_port and question.protocol == "icmp":
        raise InputError("a source port is asked for, and ICMP has no ports")
    if question.source_port + question.count - 1 > LAST_PORT:
        raise InputError(f"{question.count} source ports from {question.source_port} on: the last port is {LAST_PORT}")
    sender = known.place(parse(question.sender), question.namespace)
    to = goal(known, sender, parse(question.to), question.namespace, question.protocol)
    probes = [
        Probe(
            sender.name,
            to.address,
            to.port,
            question.protocol,  # type: ignore[arg-type]
            name=f"{sender.name} to {to.label}" + (f" #{number}" if question.count > 1 else ""),
            source_port=question.source_port + number - 1 if question.source_port else 0,
            size=question.size,
        )
        for number in range(1, question.count + 1)
    ]
    sent = lab.send_probes(probes)
    lab.told += [each.flow for each in sent]
    for each in sent:
        each.expect_outcome("accepted", f"{each.flow.name}: answered")


def told(report: RunReport, explain: Explain, request: Trace) -> str:
    """The report as the caller's terminal or program takes it."""
    if request.as_json:
        from hoplab.report.json_report import to_json

        return to_json(report) + "\n"
    from rich.console import Console

    from hoplab.report.text import print_story

    sink = io.StringIO()
    console = Console(
        file=sink,
        width=request.columns,
        force_terminal=request.colour,
        color_system="standard" if request.colour else None,
        highlight=False,
    )
    verbosity: Any = request.verbosity
    print_story(report, console, verbosity=verbosity, explain=explain)
    return sink.getvalue()
