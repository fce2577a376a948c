"""Names looked up as programs look them up: by glibc, in a pod, with every question seen on the wire.

`getent` asks the C library of the machine, which reads the pod's own /etc/resolv.conf;
which names it tries, in which order, and whom it asks is told from the frames that left
the pod, and each question is a flow like any other, with its hops and rewrites.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hoplab.hops.flow import ProbeKey, flows
from hoplab.probe.dns_messages import Asked, Message, asked_by, query, read_message
from hoplab.scenario.sent import Seen

if TYPE_CHECKING:
    from hoplab.scenario.lab import Lab

NOT_FOUND = 2
"""getent's exit code for a name that nobody knows (getent(1))."""
DEADLINE_S = 12.0
"""glibc asks twice, five seconds each (resolv.conf(5))."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One look-up: what the program was told, and what was seen of it."""

    name: str
    code: int
    addresses: tuple[str, ...]
    asked: tuple[Asked, ...] = ()
    flows: tuple[Seen, ...] = field(default_factory=tuple)
    """One for each question, in the same order."""

    @property
    def names(self) -> list[str]:
        """The names that were asked for, in order, each as often as it was asked for."""
        return [one.message.name for one in self.asked]

    @property
    def last(self) -> Message | None:
        """The answer to the last question, None when it got none."""
        return self.asked[-1].answer if self.asked else None

    @property
    def words(self) -> list[str]:
        """Every question with its answer."""
        return [one.words for one in self.asked]


def look_up(lab: Lab, sender: str, name: str) -> Resolved:
    """Have glibc look a name up in that namespace (`getent ahosts NAME`), and tell its questions as flows.

    Raises InputError when there is no such namespace.
    """
    lab.host(sender)
    if lab.foreteller is not None:
        lab.foreteller.look()
    since = lab.observer.mark()
    command = ["getent", "ahosts", name]
    process = lab.namespaces[sender].popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    end = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < end:
        lab.observer.poll(0.002)
    if process.poll() is None:
        process.kill()
    said = process.communicate()[0]
    lab.observer.quiesce()
    evidence = lab.observer.evidence(since)
    asked = tuple(asked_by(evidence.frames, sender))
    told = flows(evidence, [_key(sender, one) for one in asked], switches=lab.switches())
    lab.flows += told
    if lab.foreteller is not None:
        # Two questions on one socket are one connection to the kernel: its rules are met by the first.
        firsts = {one.ends: flow for one, flow in reversed(list(zip(asked, told, strict=True)))}
        lab.foreteller.compare_made(list(firsts.values()))
    if lab.inquiry is not None:
        lab.inquiry.look(told, evidence, lab.namespaces)
    addresses = dict.fromkeys(line.split()[0] for line in said.splitlines() if line.strip())
    return Resolved(name, process.returncode, tuple(addresses), asked, tuple(Seen(lab.keep, flow) for flow in told))


def _key(sender: str, one: Asked) -> ProbeKey:
    name = f"{sender} asks for {one.message.type} {one.message.name}"
    # A connection is known by its ports and its time; a datagram by its question.
    if one.protocol == "tcp":
        return ProbeKey(f"{name} by TCP", "tcp", sender, one.ends)
    return ProbeKey(name, "udp", sender, one.ends, token=one.question, started_ns=one.time_ns)


def ask(lab: Lab, sender: str, server: object, name: str, type_: str) -> Message | None:
    """One crafted question of any type to a server; its answer, None when there was none that could be read."""
    data = query(name, type_, 1 + len(lab.flows) % 65535)
    sent = lab.send_probes([lab.probe(sender, "udp", server, 53, {"payload": data, "name": f"{type_} {name}"})])[0]
    return read_message(sent.result.response)


def tell(lab: Lab, seen: Sequence[Seen]) -> None:
    """Have the story tell these flows hop by hop."""
    lab.told += [one.flow for one in seen]
