"""`lab.py scenario`: list, or run and report.

Each scenario has a sandbox of its own, so nothing of one can reach the next.  With
--json nothing but the documents goes to standard output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoplab.cli.choices import cluster_options
from hoplab.cli.endings import say
from hoplab.cli.runs import Runs, Start, run_all

if TYPE_CHECKING:
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import Crafter
    from hoplab.scenario.acting import Finished
    from hoplab.scenario.notes import Note


@click.command(epilog="A NAME may also be the path of a script of your own: ./my_scenario.py")
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all|list")
@cluster_options
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON document on standard output (of several runs, one a line)."
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit file for a CI server.")
@click.option(
    "--captures", type=click.Path(path_type=Path, file_okay=False), help="Where pcapng and story go [captures/]."
)
@click.option("--pause", is_flag=True, help="Stay in the lab's prompt after the run.")
@click.option("-v", "--verbose", count=True, help="Tell every flow in full, and every rule that a packet met.")
@click.option("-q", "--quiet", is_flag=True, help="One line a run.")
@click.pass_obj
def command(debug: bool, /, names: tuple[str, ...], verbose: int, quiet: bool, **given: Any) -> int:
    """Run scenarios: build a lab, send packets, verify, report.

    `lab.py scenario list` shows which there are, `lab.py scenario list NAME` tells one's whole story, and
    `lab.py scenario all` runs every one.
    """
    from hoplab.scenario import scripts

    if names[0] == "list":
        return _list(names[1:])
    if given["pause"] and given["as_json"]:
        raise click.UsageError("--pause is a conversation and --json a document: choose one of them")
    everything = names == ("all",)
    chosen = scripts.names() if everything else list(names)
    for name in chosen:
        scripts.find(name)
    chosen = _fitting(chosen, given, everything=everything)
    runs = Runs(
        as_json=given.pop("as_json"),
        verbosity=-1 if quiet else min(verbose, 1),
        junit=given.pop("junit"),
        captures=given.pop("captures"),
        seed=given["seed"],
        pause=given["pause"],
        debug=debug,
    )
    return run_all({name: _start(name, given) for name in chosen}, runs)


def _fitting(names: Sequence[str], given: dict[str, Any], *, everything: bool) -> list[str]:
    """The scenarios that these options can be used with; of `all` the others are left out, with a note that says why.

    Raises InputError for one that was asked for by its name, or when none is left.
    """
    from hoplab.errors import InputError
    from hoplab.scenario import scripts
    from hoplab.scenario.options import RunOptions

    kept = {key: given[key] for key in given if key not in ("as_json", "junit", "captures")}
    options, fitting = RunOptions(**kept), []
    for name in names:
        try:
            options.fit(scripts.terms(name))
        except InputError as error:
            if not everything:
                raise
            say(f"note: {name} is left out: {error}")
        else:
            fitting.append(name)
    if not fitting:
        raise InputError("no scenario can be played with these options")
    return fitting


def _start(name: str, given: dict[str, Any]) -> Start:
    def start(zygote: Zygote, crafter: Crafter, captures: Path, note: Note) -> Finished:
        from hoplab.scenario.options import RunOptions
        from hoplab.scenario.runner import run

        return run(name, RunOptions(**given, captures=captures), zygote, crafter, note=note)

    return start


def _list(names: Sequence[str]) -> int:
    import ast
    import textwrap

    from hoplab.scenario import scripts

    for name in names:
        path = scripts.find(name)
        scripts.purpose(path)  # Complains of what can't be read as Python.
        click.echo(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "(no docstring)")
    if not names:
        known = scripts.names()
        width = max(map(len, known), default=0) + 2
        for name in known:
            purpose = scripts.purpose(scripts.find(name))
            click.echo(textwrap.fill(f"{name:{width}}{purpose}", 80, subsequent_indent=" " * width))
    return 0
