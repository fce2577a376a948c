"""`lab.py scenario`: list, or run and report.

Each scenario has a sandbox of its own, so nothing of one can reach the next.  With
--json nothing but the documents goes to standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoplab.cli.endings import FAILED, INTERRUPTED, guarded, of_sandbox, say
from hoplab.errors import CannotRunHere, InputError

if TYPE_CHECKING:
    from hoplab.report.run import RunReport
    from hoplab.scenario.acting import Finished

CANNOT = CannotRunHere.exit_code
DEFAULT_CAPTURES = Path(__file__).resolve().parents[2] / "captures"


@click.command(epilog="A NAME may also be the path of a script of your own: ./my_scenario.py")
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all|list")
@click.option("--balancer", type=click.Choice(["hash", "round-robin"]), help="How the balancer picks a node.")
@click.option(
    "--balancer-mode",
    type=click.Choice(["nat", "passthrough", "proxy"]),
    help="How it hands a flow over: rewritten to a node port (nat), as it is (passthrough).",
)
@click.option("--provider", type=click.Choice(["gce", "aws", "aws-nlb"]), help="A cloud's preset of the two above.")
@click.option(
    "--proxy-mode",
    type=click.Choice(["iptables", "nftables"]),
    default="iptables",
    show_default=True,
    help="What kube-proxy writes its rules for.",
)
@click.option(
    "--fabric",
    type=click.Choice(["routes", "vxlan"]),
    default="routes",
    show_default=True,
    help="How pods' packets get from node to node.",
)
@click.option("--nodes", type=click.IntRange(1, 200), help="How many nodes the cluster has.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same ports, names and addresses.")
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
    chosen = scripts.names() if names == ("all",) else list(names)
    for name in chosen:
        scripts.find(name)
    _check_programs()
    junit, captures = given.pop("junit"), given["captures"] or DEFAULT_CAPTURES
    _check_places(junit, captures)
    tell = _Telling(given.pop("as_json"), -1 if quiet else min(verbose, 1), many=len(chosen) > 1)
    given["captures"] = captures.absolute()
    worst, reports = 0, []
    for name in chosen:
        code, report = _in_sandbox(name, given, tell, debug=debug, wanted=junit is not None)
        worst = worst or code
        if code in (INTERRUPTED, CANNOT):
            return code
        reports.append(report or _without_verdict(name, given["seed"], code))
    if junit is not None:
        _write_junit(junit, reports)
    return worst


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


def _check_programs() -> None:
    """Raise CannotRunHere when a program that every lab needs is not installed."""
    from hoplab.setup import packages

    absent = [package for package in packages.missing() if package.needed]
    if absent:
        names = [package.name for package in absent]
        what = ", ".join(f"{package.program} ({package.purpose})" for package in absent)
        raise CannotRunHere(f"programs are missing: {what}. Get them: {packages.install_command(names)}")


def _check_places(junit: Path | None, captures: Path) -> None:
    """Refuse, before anything is built, places that can't hold the run's files.  Raises InputError."""
    if junit is not None and not junit.absolute().parent.is_dir():
        raise InputError(f"--junit: there is no folder {junit.absolute().parent}")
    if captures.resolve().is_relative_to("/run"):
        raise InputError(f"--captures: {captures} is below /run, of which a lab has its own; choose another folder")


def _without_verdict(name: str, seed: int, code: int) -> RunReport:
    from hoplab.report.run import RunReport

    return RunReport(name, passed=False, seed=seed, problems=(f"the run came to no verdict; exit code {code}",))


def _write_junit(path: Path, reports: Sequence[RunReport]) -> None:
    from hoplab.report.artifacts import ArtifactError, write_artifact
    from hoplab.report.junit import to_junit

    try:
        write_artifact(path, to_junit(reports))
    except ArtifactError as error:
        # The verdict stands all the same.
        say(str(error))


class _Telling:
    """How a finished run is told on standard output."""

    def __init__(self, as_json: bool, verbosity: int, *, many: bool) -> None:
        self.as_json, self.verbosity, self.many = as_json, verbosity, many

    def __call__(self, finished: Finished) -> None:
        try:
            self._tell(finished)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has gone (`| head`); the verdict stands all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _tell(self, finished: Finished) -> None:
        if self.as_json:
            from hoplab.report.json_report import to_json

            print(to_json(finished.report, indent=None if self.many else 1))
        if self.as_json or self.verbosity < 0:
            # The story tells them itself.
            for problem in finished.report.problems:
                say(f"note: {problem}")
        if self.as_json:
            return
        from rich.console import Console

        from hoplab.report.text import print_story

        verbosity: Any = self.verbosity
        print_story(finished.report, Console(highlight=False), verbosity=verbosity, explain=finished.explain)


def _in_sandbox(
    name: str, given: dict[str, Any], tell: Callable[[Finished], None], *, debug: bool, wanted: bool
) -> tuple[int, RunReport | None]:
    """One scenario in a sandbox of its own: its exit code, and its report when it is wanted and there is one."""
    import pickle
    import tempfile

    from hoplab.net import sandbox

    _prepare_covered(given["captures"])
    user = _files_owner(given["captures"])
    with tempfile.TemporaryFile() as handed:

        def inside() -> int:
            report = _run(name, given, user, tell)
            if wanted:
                pickle.dump(report, handed)
                handed.flush()
            return 0 if report.passed else FAILED

        try:
            # Errors end inside: nothing outside could catch them.
            code = of_sandbox(sandbox.run(lambda: guarded(inside, debug=debug)))
        except sandbox.SandboxRefused as error:
            raise CannotRunHere(str(error)) from error
        handed.seek(0)
        there = os.fstat(handed.fileno()).st_size > 0
        return code, pickle.load(handed) if there else None


def _files_owner(captures: Path) -> tuple[int, int] | None:
    """Whose the files of a run by root should be: under sudo its caller's, to move and remove them without sudo."""
    if os.geteuid() != 0:
        return None
    from hoplab.setup.environment import owner

    return owner(str(next(folder for folder in (captures, *captures.parents) if folder.exists())))


def _run(name: str, given: dict[str, Any], user: tuple[int, int] | None, tell: Callable[[Finished], None]) -> RunReport:
    """In the sandbox, as process 1."""
    _reach(given["captures"])
    # The two processes that others are forked from start while this one is still small.
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import CrafterProcess

    zygote, crafter = Zygote(), CrafterProcess()
    from hoplab.scenario.options import RunOptions
    from hoplab.scenario.runner import run

    finished = run(name, RunOptions(**given), zygote, crafter)
    if user is not None and "pcapng" in finished.report.artifacts:
        folder = os.path.dirname(finished.report.artifacts["pcapng"])
        for path in (folder, *(entry.path for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))):
            os.chown(path, *user, follow_symlinks=False)
    tell(finished)
    if given["pause"]:
        finished.stay()
    return finished.report


COVERED = (("/etc", "HOST_ETC"), ("/var/lib", "HOST_VAR_LIB"))
"""Directories of which a lab has its own, and where in hoplab.net.sandbox the host's is."""


def _prepare_covered(folder: Path) -> None:
    """Make the captures' folder now where the lab will have a copy of what is above it: inside it would be lost.

    Raises InputError.
    """
    if any(folder.resolve().is_relative_to(own) for own, _hosts in COVERED):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--captures: {folder} can't be made ({error.strerror}); choose another folder") from error


def _reach(folder: Path) -> None:
    """In the sandbox: have the captures' folder be the host's, also where the lab has a copy of what is above it."""
    from hoplab.net import kernel, sandbox

    real = folder.resolve()
    for own, hosts in COVERED:
        if real.is_relative_to(own) and real.is_dir():
            source = Path(getattr(sandbox, hosts)) / real.relative_to(own)
            kernel.mount(str(source), str(real), "", kernel.MS_BIND | kernel.MS_REC)
