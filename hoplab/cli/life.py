"""`lab.py up`, `ps` and `down`: a lab that stays.

A lab that stays is a process of its own (hoplab.labs.keeper); these commands start one, list those whose folder
is locked, and ask one to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hoplab.cli.choices import cluster_options, files_option
from hoplab.cli.endings import guarded, of_sandbox
from hoplab.errors import HoplabError, InputError

DEFAULT_NODES = 2
ANSWERS_WITHIN_S = 1.0
"""How long `ps` waits for a lab that is busy."""


@click.command()
@click.argument("topology", default="cloud")
@files_option("Manifests whose objects are there from the start.")
@click.option("--name", default="lab", show_default=True, help="What the lab is called.")
@click.option("-d", "--detach", is_flag=True, help="Return when the lab is ready, and leave it running.")
@click.option("--addons", "addons", help="Addons that are on from the start, with commas between them.")
@cluster_options
@click.pass_obj
def up(
    debug: bool,
    /,
    topology: str,
    files: tuple[Path, ...],
    name: str,
    detach: bool,
    addons: str | None,
    **given: Any,
) -> int:
    """Start a lab that stays: a cluster of this TOPOLOGY (cloud, single, ...), with the objects of these files.

    In the foreground it shows Mininet's prompt (`node1 ip a`, `pingall`) and ends when you leave; with --detach it
    runs until `lab.py down`.  Other terminals reach it by `lab.py exec`, `trace`, `capture` and `kubectl`.
    """
    from hoplab.addons import ADDONS
    from hoplab.cli.runs import check_programs
    from hoplab.kube.load import load_files
    from hoplab.kube.objects import Loaded
    from hoplab.labs import keeper, state
    from hoplab.labs.addons import checked
    from hoplab.labs.inside import Plan
    from hoplab.scenario.options import RunOptions

    check_programs()
    state.check_name(name)
    options = RunOptions(**given).cluster(topology, DEFAULT_NODES)
    wanted = [checked(each.strip()) for each in addons.split(",")] if addons else []
    whole = [*(ADDONS[each].file for each in dict.fromkeys(wanted)), *files]
    loaded = load_files(whole) if whole else Loaded(())
    plan = Plan(name, options, loaded, tuple(str(file) for file in files))

    def guard(work: Callable[[], int]) -> int:
        return guarded(work, debug=debug)

    if not detach:
        return of_sandbox(keeper.up(plan, guard))
    code = of_sandbox(keeper.up_detached(plan, guard))
    if not code:
        click.echo(f"{name} is ready. Try: lab.py kubectl get pods, lab.py shell node1. The end: lab.py down")
    return code


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON document on standard output.")
def ps(as_json: bool) -> int:
    """The labs that are running."""
    from hoplab.labs import state

    labs = [told for name in state.alive() if (told := _told(name)) is not None]
    if as_json:
        import json

        click.echo(json.dumps({"version": 1, "labs": labs}, indent=1))
        return 0
    click.echo("\n".join(table(labs, time.time())))
    return 0


def _told(name: str) -> dict[str, Any] | None:
    """What is known of a lab; None when it went meanwhile."""
    from hoplab.labs import asking, state
    from hoplab.labs.protocol import Status

    facts = state.facts(name)
    if facts is None:
        return {"name": name, "status": "starting"} if name in state.alive() else None
    known: dict[str, Any] = {
        "name": name,
        "topology": facts.topology,
        "keeper": facts.keeper,
        "started": facts.started,
        "files": list(facts.files),
        **facts.addresses,
    }
    try:
        opened = asking.ask(name, Status())
        opened.timeout(ANSWERS_WITHIN_S)
        answer, _descriptors = asking.answer(opened)
        opened.close()
    except TimeoutError:
        return {**known, "status": "busy"}
    except HoplabError:
        return {**known, "status": "no answer"} if name in state.alive() else None
    return {**known, "status": "ready", **answer}


COLUMNS: Mapping[str, str] = {
    "NAME": "name",
    "TOPOLOGY": "topology",
    "STATUS": "status",
    "NODES": "nodes",
    "PODS": "pods",
    "AGE": "started",
    "KEEPER": "keeper",
}


def table(labs: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """The labs as lines of a table (pure); `now` in seconds since the epoch."""
    rows = [list(COLUMNS)]
    for lab in labs:
        cells = {**lab, "started": age(now - lab["started"]) if "started" in lab else None}
        rows.append([str(cells.get(key) if cells.get(key) is not None else "-") for key in COLUMNS.values()])
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def age(seconds: float) -> str:
    """How long something has been there, as kubectl writes it (HumanDuration in apimachinery's duration package)."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


@click.command()
@click.option("--name", metavar="LAB", help="Which lab, where several are running.")
@click.option("--all", "every", is_flag=True, help="Every lab of yours.")
def down(name: str | None, every: bool) -> int:
    """End a lab.  When this returns, nothing of it is left."""
    from hoplab.labs import asking, state

    if every and name:
        raise InputError("--all and --name: choose one of them")
    chosen: Iterable[str] = state.alive() if every else [state.choose(name)]
    for each in chosen:
        asking.down(each)
    return 0
