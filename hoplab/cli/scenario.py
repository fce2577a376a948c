"""`lab.py scenario`: list, or run and report.

Each scenario has a sandbox of its own, so nothing of one can reach the next.  With
--json nothing but the documents goes to standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoplab.errors import CannotRunHere

if TYPE_CHECKING:
    from hoplab.report.run import RunReport


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
    as_json, junit = given.pop("as_json"), given.pop("junit")
    verbosity = -1 if quiet else min(verbose, 1)
    worst, reports = 0, []
    for name in chosen:
        code, report = _in_sandbox(name, given, as_json, verbosity)
        worst = worst or code
        if report is None:
            return code
        reports.append(report)
    if junit is not None:
        _write_junit(junit, reports)
    return worst


def _in_sandbox(name: str, given: dict[str, Any], as_json: bool, verbosity: int) -> tuple[int, RunReport | None]:
    """One scenario in a sandbox of its own; its exit code, and its report when it came to one."""
    import pickle
    import tempfile

    from hoplab.net import sandbox

    with tempfile.TemporaryFile() as handed:

        def hand_over(report: RunReport) -> None:
            pickle.dump(report, handed)
            handed.flush()

        try:
            code = sandbox.run(lambda: _inside(name, given, as_json, verbosity, hand_over))
        except sandbox.SandboxRefused as error:
            raise CannotRunHere(str(error)) from error
        handed.seek(0)
        try:
            return code, pickle.load(handed)
        except EOFError:
            return code, None


def _write_junit(path: Path, reports: Sequence[RunReport]) -> None:
    from hoplab.report.artifacts import ArtifactError, write_artifact
    from hoplab.report.junit import to_junit

    try:
        write_artifact(path, to_junit(reports))
    except ArtifactError as error:
        # The verdict stands all the same.
        print(f"lab.py: {error}", file=sys.stderr)


def _list() -> int:
    from hoplab.scenario import scripts

    for name in scripts.names():
        click.echo(f"{name:24} {scripts.purpose(scripts.find(name))}")
    return 0


def _inside(
    name: str, given: dict[str, Any], as_json: bool, verbosity: int, hand_over: Callable[[RunReport], None]
) -> int:
    """In the sandbox, as process 1: errors end here, since nothing outside can catch them."""
    from hoplab.cli.main import guarded

    return guarded(lambda: _run(name, given, as_json, verbosity, hand_over))


def _run(
    name: str, given: dict[str, Any], as_json: bool, verbosity: int, hand_over: Callable[[RunReport], None]
) -> int:
    # The two processes that others are forked from start while this one is still small.
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import CrafterProcess

    zygote, crafter = Zygote(), CrafterProcess()
    from hoplab.scenario.options import RunOptions
    from hoplab.scenario.runner import run

    finished = run(name, RunOptions(**given), zygote, crafter)
    report = finished.report
    hand_over(report)
    if as_json:
        from hoplab.report.json_report import to_json

        print(to_json(report))
        for problem in report.problems:
            print(f"lab.py: note: {problem}", file=sys.stderr)
    else:
        from rich.console import Console

        from hoplab.report.text import print_story

        print_story(report, Console(highlight=False), verbosity=verbosity, explain=finished.explain)  # type: ignore[arg-type]
    return 0 if report.passed else 1
