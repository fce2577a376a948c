"""One run of one scenario, inside the sandbox: build, converge, observe, send, judge, leave the evidence behind.

The phases are timed apart.  While the cluster is built this process mostly waits for
others (CNI plugins, rule loaders), so what only the later phases need is imported
meanwhile, by a thread: `hoplab.scenario.acting` is that later half.
"""

from __future__ import annotations

import gc
import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hoplab.cluster.applying import apply
from hoplab.cluster.cluster import Cluster
from hoplab.cluster.options import ClusterOptions
from hoplab.errors import CannotRunHere, HoplabError, InputError
from hoplab.kube import convert
from hoplab.kube.load import load_files
from hoplab.kube.objects import Loaded
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed
from hoplab.net.zygote import SpawnFailed, Zygote
from hoplab.scenario import scripts
from hoplab.scenario.notes import Note, silent
from hoplab.scenario.options import RunOptions

if TYPE_CHECKING:
    from hoplab.probe.crafter import Crafter
    from hoplab.scenario.acting import Finished
    from hoplab.scenario.lab import Lab

LATER_HALF = "hoplab.scenario.acting"


def run(
    name: str,
    options: RunOptions,
    zygote: Zygote,
    crafter: Crafter,
    *,
    sabotage: Callable[[Lab], None] | None = None,
    note: Note = silent,
) -> Finished:
    """Run one scenario in this sandbox.

    `sabotage` breaks something in the converged lab before the script runs: how tests
    prove that a verdict can fail.  Raises InputError for a script, a manifest or an
    option that can't be, CannotRunHere or another HoplabError for what this machine could not do.  Checks that
    do not hold are no error: they are in the report.
    """
    script = scripts.load(name)
    _require(script)
    cluster_options = options.fit(script.terms)
    files = [*_addons(script), *script.manifests]
    loaded = load_files(files) if files else Loaded(())

    def play(lab: Lab) -> None:
        from hoplab.scenario.acting import act_script

        act_script(script, lab)

    captures = options.captures or scripts.FOLDER.parent / "captures"
    return in_cluster("scenario", script.name, cluster_options, loaded, captures, play, zygote, crafter, sabotage, note)


def _require(script: scripts.Script) -> None:
    """Raises CannotRunHere when a program that the scenario needs is nowhere on this machine.

    Raises InputError for one that no machine could have: --setup knows none of that name.
    """
    if not script.needs:
        return
    from hoplab.setup.programs import PROGRAMS
    from hoplab.setup.programs import find as find_program

    known = [package.program for package in PROGRAMS]
    for name in script.needs:
        if name not in known:
            raise InputError(f"{script.path}: NEEDS: no program is called {name!r}; there are: {', '.join(known)}")
        if find_program(name) is None:
            raise CannotRunHere(
                f"scenario {script.name} needs {name}, which is neither installed here nor unpacked in the project:"
                " python3 lab.py --setup unpacks it"
            )


def _addons(script: scripts.Script) -> list[Path]:
    """The manifests of the addons that a script wants.  Raises InputError for one that is not there."""
    if not script.addons:
        return []
    from hoplab import addons

    return [addons.find(name).file for name in script.addons]


def in_cluster(
    kind: str,
    name: str,
    options: ClusterOptions,
    loaded: Loaded,
    captures: Path,
    play: Callable[[Lab], None],
    zygote: Zygote,
    crafter: Crafter,
    sabotage: Callable[[Lab], None] | None = None,
    note: Note = silent,
) -> Finished:
    """Build a cluster with these objects, observe it, play, judge, and leave the evidence below `captures`.

    Raises as `run`.
    """
    # Evidence is tens of thousands of small values without cycles, kept to the end: collecting finds nothing, slowly.
    gc.disable()
    importing = threading.Thread(target=importlib.import_module, args=(LATER_HALF,))
    importing.start()
    started = time.monotonic()
    machines = (*options.machines, *map(convert.as_node, loaded.of("Node")))
    cluster = Cluster(zygote, replace(options, machines=machines))
    try:
        note(f"the machines of the topology {options.topology}")
        cluster.build()
        note("pods, endpoints and rules")
        apply(cluster, loaded.objects)
        cluster.converge()
        if options.topology != "single" and options.way_out == "masquerade":
            cluster.masquerade_outbound()
        importing.join()
        from hoplab.scenario.acting import Play, act

        played = Play(kind, name, play, options.seed, captures, note)
        return act(played, cluster, loaded.warnings, crafter, started, sabotage)
    except (CommandFailed, SpawnFailed, DeadlinePassed) as error:
        raise HoplabError(f"{name}: {error}") from error
