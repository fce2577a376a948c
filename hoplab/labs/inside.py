"""A lab's process 1: builds the cluster, says that it is ready, and works until somebody ends it.

Runs inside the sandbox; when it returns, or dies, the kernel takes everything away.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hoplab.cluster.options import ClusterOptions
from hoplab.errors import HoplabError
from hoplab.kube.objects import Loaded

if TYPE_CHECKING:
    from hoplab.api.certificates import Identity
    from hoplab.cluster.cluster import Cluster
    from hoplab.labs.control import ControlServer
    from hoplab.labs.podlogs import LogBook
    from hoplab.labs.running import RunningLab
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import Crafter

MOST_FAULTS = 20
"""Faults in a row, after which a lab is no use any more."""
SLOW = "hoplab.api.server"
"""What takes longest to import, and is not needed before the cluster is there."""
READY = b"ready\n"
"""What the keeper's caller is told when the lab has converged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What lab is to be: its cluster, the objects in it from the start, the files that they came from."""

    name: str
    options: ClusterOptions
    loaded: Loaded
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Doors:
    """What was opened before the sandbox was entered, where it can be reached: the control socket and the API's.

    `ready` is told READY (-1: nobody waits).
    """

    control: socket.socket
    api: socket.socket
    identity: Identity
    ready: int = -1
    prompt: bool = False


def live(plan: Plan, doors: Doors) -> int:
    """Be the lab; its exit code.  Raises HoplabError for whatever keeps it from coming up."""
    from hoplab.net import sandbox

    sandbox.seal()
    # The two processes that others are forked from start while this one is still small.
    from hoplab.net.zygote import SpawnFailed, Zygote
    from hoplab.probe.crafter import CrafterProcess

    zygote, crafter = Zygote(), CrafterProcess()
    from hoplab.net.loop import DeadlinePassed
    from hoplab.net.namespaces import CommandFailed

    try:
        return _live(plan, doors, zygote, crafter)
    except (CommandFailed, SpawnFailed, DeadlinePassed) as error:
        raise HoplabError(f"{plan.name}: {error}") from error


def _live(plan: Plan, doors: Doors, zygote: Zygote, crafter: Crafter) -> int:
    from hoplab.cluster.applying import apply
    from hoplab.cluster.cluster import Cluster
    from hoplab.cluster.following import Follower
    from hoplab.kube import convert
    from hoplab.labs.control import ControlServer
    from hoplab.labs.podlogs import LogBook
    from hoplab.labs.pods import Pods
    from hoplab.labs.running import RunningLab, name_machines
    from hoplab.net.prompt import Prompt, greeting

    machines = (*plan.options.machines, *map(convert.as_node, plan.loaded.of("Node")))
    cluster = Cluster(zygote, replace(plan.options, machines=machines))
    importing = threading.Thread(target=importlib.import_module, args=(SLOW,))
    cluster.build()
    name_machines(cluster)
    # Before any thread is there: the prompt is a fork of this process.
    prompt = Prompt(cluster.net) if doors.prompt else None
    importing.start()
    # Where somebody comes to type, a pod must not be a way to this machine's files.
    cluster.containers.contain_all = True
    book = LogBook(cluster.loop, cluster.store)
    for agent in cluster.nodes.values():
        agent.log_opened = book.open
    apply(cluster, plan.loaded.objects)
    cluster.converge()
    if plan.options.topology != "single" and plan.options.way_out == "masquerade":
        cluster.masquerade_outbound()
    lab = RunningLab(plan.name, cluster, zygote, crafter, plan.options.seed)
    importing.join()
    from hoplab.api.server import ApiServer

    api = ApiServer(cluster.store, cluster.ranges, Pods(lab, book), doors.identity, plan.options.seed)
    api.start(doors.api, api_door(cluster))
    follower = Follower(cluster)
    server = ControlServer(lab, doors.control)
    for warning in (*plan.loaded.warnings, *cluster.warnings):
        print(f"lab.py: note: {warning}", file=sys.stderr)
    sys.stderr.flush()
    if prompt is not None:
        cluster.loop.register(prompt.fileno(), lambda: _end(lab))
        prompt.open(greeting(cluster.met_at()))
    if doors.ready >= 0:
        os.write(doors.ready, READY)
        os.close(doors.ready)
    _work(lab, server, book)
    server.close()
    api.close()
    follower.close()
    return 0


API_PORT = 6443
"""kube-apiserver's --secure-port."""


def api_door(cluster: Cluster) -> socket.socket:
    """Where pods and nodes reach the API server: on the first node, as on a control-plane node; Service kubernetes."""
    agent = next(iter(cluster.nodes.values()))
    address = agent.node.addresses[0]
    with agent.namespace.entered():
        door = socket.create_server((address, API_PORT), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    cluster.serve_api(address, API_PORT)
    return door


def _work(lab: RunningLab, server: ControlServer, book: LogBook) -> None:
    """The lab's loop, until somebody ends it.  A fault that nobody foresaw is told in the log, and the lab goes on."""
    told, faults = len(lab.cluster.warnings), 0
    while not lab.ending:
        try:
            lab.cluster.loop.poll(None)
            while lab.jobs:
                lab.jobs.pop(0)()
            server.refresh()
            book.sweep()
            faults = 0
        except Exception as error:
            faults += 1
            if faults > MOST_FAULTS:
                raise
            traceback.print_exception(error, file=sys.stderr)
        for warning in lab.cluster.warnings[told:]:
            print(f"lab.py: note: {warning}", file=sys.stderr, flush=True)
        told = len(lab.cluster.warnings)


def _end(lab: RunningLab) -> None:
    lab.ending = True
