"""`lab.py check`: run check files, each in a lab of its own, and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoplab.cli.runs import Runs, Start, run_all

if TYPE_CHECKING:
    from hoplab.checks.spec import CheckFile
    from hoplab.dataplane.config import ProxyMode
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import Crafter
    from hoplab.scenario.acting import Finished
    from hoplab.scenario.notes import Note


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--proxy-mode",
    type=click.Choice(["iptables", "nftables"]),
    help="What kube-proxy writes its rules for, whatever the files say.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON document on standard output (of several files, one a line)."
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit file for a CI server.")
@click.option(
    "--captures", type=click.Path(path_type=Path, file_okay=False), help="Where pcapng and story go [captures/]."
)
@click.option("-v", "--verbose", count=True, help="Tell every flow in full, and every rule that a packet met.")
@click.option("-q", "--quiet", is_flag=True, help="One line a file.")
@click.pass_obj
def command(
    debug: bool,
    /,
    files: tuple[Path, ...],
    proxy_mode: ProxyMode | None,
    as_json: bool,
    junit: Path | None,
    captures: Path | None,
    verbose: int,
    quiet: bool,
) -> int:
    """Run check files: build the cluster that each describes, send its flows, verify, report.

    A check file says in YAML what a cluster's network must do: who may answer, what is masqueraded, rejected or
    dropped.  docs/checks.md has the format.  Every file is read before the first one runs.
    """
    from hoplab.checks.parse import read_all

    found = read_all(files, proxy_mode)
    runs = Runs(as_json, -1 if quiet else min(verbose, 1), junit, captures, debug=debug)
    return run_all({file.name: _start(file) for file in found}, runs)


def _start(file: CheckFile) -> Start:
    def start(zygote: Zygote, crafter: Crafter, captures: Path, note: Note) -> Finished:
        from hoplab.checks.running import run

        return run(file, captures, zygote, crafter, note=note)

    return start
