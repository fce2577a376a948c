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
from typing import TYPE_CHECKING

from hoplab.cluster.cluster import Cluster
from hoplab.errors import HoplabError
from hoplab.kube import convert
from hoplab.kube.load import load_files
from hoplab.kube.objects import Loaded
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed
from hoplab.net.zygote import SpawnFailed, Zygote
from hoplab.scenario import scripts
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
) -> Finished:
    """Run one scenario in this sandbox.

    `sabotage` breaks something in the converged lab before the script runs: how tests
    prove that a verdict can fail.  Raises InputError for a script, a manifest or an
    option that can't be, HoplabError for what this machine could not do.  Checks that
    do not hold are no error: they are in the report.
    """
    script = scripts.load(name)
    cluster_options = options.cluster(script.topology, script.nodes)
    loaded = load_files(script.manifests) if script.manifests else Loaded(())
    # Evidence is tens of thousands of small values without cycles, kept to the end: collecting finds nothing, slowly.
    gc.disable()
    importing = threading.Thread(target=importlib.import_module, args=(LATER_HALF,))
    importing.start()
    started = time.monotonic()
    cluster = Cluster(zygote, replace(cluster_options, machines=tuple(map(convert.as_node, loaded.of("Node")))))
    try:
        cluster.build()
        apply(cluster, loaded)
        cluster.converge()
        if cluster_options.topology != "single":
            cluster.masquerade_outbound()
        importing.join()
        from hoplab.scenario.acting import act

        return act(script, options, cluster, loaded.warnings, crafter, started, sabotage)
    except (CommandFailed, SpawnFailed, DeadlinePassed) as error:
        raise HoplabError(f"{script.name}: {error}") from error


def apply(cluster: Cluster, loaded: Loaded) -> None:
    """Hand every object of the manifests to the cluster."""
    cluster.apply(
        services=convert.services(loaded.objects),
        pods=[convert.as_pod(each) for each in loaded.of("Pod")],
        workload_list=[convert.as_workload(each) for each in loaded.of(*convert.WORKLOADS)],
        slices=convert.endpoint_slices(loaded.objects),
    )
