"""`lab.py scenario`: list, or run and report.

All scenarios of one call share one sandbox process tree; each has a cluster of its
own in it.  With --json nothing but the documents goes to standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hoplab.errors import CannotRunHere, HoplabError


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all|list")
@click.option("--balancer", type=click.Choice(["hash", "round-robin"]), help="How the balancer picks a node.")
@click.option("--balancer-mode", type=click.Choice(["nat", "passthrough", "proxy"]), help="How it hands a flow over.")
@click.option("--provider", type=click.Choice(["gce", "aws", "aws-nlb"]), help="A cloud's preset of the two above.")
@click.option("--proxy-mode", type=click.Choice(["iptables", "nftables"]), default="iptables", show_default=True)
@click.option("--fabric", type=click.Choice(["routes", "vxlan"]), default="routes", show_default=True)
@click.option("--nodes", type=click.IntRange(1, 200), help="How many nodes the cluster has.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same ports, names and addresses.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a run on standard output.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit file.")
@click.option("--captures", type=click.Path(path_type=Path, file_okay=False), help="Where captures go [captures/].")
@click.option("--pause", is_flag=True, help="Stay in the lab's prompt after the run.")
@click.option("-v", "--verbose", count=True, help="Tell every rule that a packet met.")
@click.option("-q", "--quiet", is_flag=True, help="One line a run.")
def scenario(names: tuple[str, ...], verbose: int, quiet: bool, **given: Any) -> int:
    """Run scenarios: build a lab, send packets, verify, report.  `list` shows which there are."""
    from hoplab.scenario import scripts

    if names == ("list",):
        return _list()
    chosen = scripts.names() if names == ("all",) else list(names)
    for name in chosen:
        scripts.find(name)
    from hoplab.net import sandbox

    try:
        return sandbox.run(lambda: _inside(chosen, given, -1 if quiet else min(verbose, 1)))
    except sandbox.SandboxRefused as error:
        raise CannotRunHere(str(error)) from error


def _list() -> int:
    from hoplab.scenario import scripts

    for name in scripts.names():
        click.echo(f"{name:24} {scripts.purpose(scripts.find(name))}")
    return 0


def _inside(names: Sequence[str], given: dict[str, Any], verbosity: int) -> int:
    """In the sandbox, as process 1: errors end here, since nothing outside can catch them."""
    from hoplab.cli.main import _say

    try:
        return _run(names, given, verbosity)
    except HoplabError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 1
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _say(f"unexpected {type(error).__name__}: {error}. This is a defect; `lab.py --debug ...` shows where.")
        return 1


def _run(names: Sequence[str], given: dict[str, Any], verbosity: int) -> int:
    # The two processes that others are forked from start while this one is still small.
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import CrafterProcess

    zygote, crafter = Zygote(), CrafterProcess()
    from rich.console import Console

    from hoplab.report.json_report import to_json
    from hoplab.report.junit import to_junit
    from hoplab.report.text import print_story
    from hoplab.scenario.options import RunOptions
    from hoplab.scenario.runner import run

    as_json, junit = given.pop("as_json"), given.pop("junit")
    options = RunOptions(**given)
    console = Console(highlight=False)
    reports = []
    for name in names:
        finished = run(name, options, zygote, crafter)
        reports.append(finished.report)
        if as_json:
            print(to_json(finished.report))
        else:
            print_story(finished.report, console, verbosity=verbosity, explain=finished.explain)  # type: ignore[arg-type]
        for problem in finished.report.problems if as_json else ():
            print(f"lab.py: note: {problem}", file=sys.stderr)
    if junit is not None:
        from hoplab.report.artifacts import write_artifact

        write_artifact(junit, to_junit(reports))
    return 0 if all(report.passed for report in reports) else 1
