"""What commands that run labs have in common: a sandbox for each run, how it is told, where its files go.

Each run has a sandbox of its own, so nothing of one can reach the next.  With --json
nothing but the documents goes to standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoplab.cli.endings import FAILED, INTERRUPTED, guarded, of_sandbox, say
from hoplab.cli.progress import Progress
from hoplab.errors import CannotRunHere, InputError

if TYPE_CHECKING:
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import Crafter
    from hoplab.report.run import RunReport
    from hoplab.scenario.acting import Finished
    from hoplab.scenario.notes import Note

CANNOT = CannotRunHere.exit_code
DEFAULT_CAPTURES = Path(__file__).resolve().parents[2] / "captures"

Start = Callable[["Zygote", "Crafter", Path, "Note"], "Finished"]
"""Runs something in the sandbox; called there, as process 1, with the folder for its files and a reader of notes."""


@dataclass(frozen=True, slots=True)
class Runs:
    """How runs are told and where their files go."""

    as_json: bool
    verbosity: int
    junit: Path | None
    captures: Path | None
    seed: int = 7
    pause: bool = False
    debug: bool = False


def run_all(starts: Mapping[str, Start], runs: Runs) -> int:
    """Run each of these by name, tell it, write the JUnit file; the exit code of the first that did not hold.

    Raises InputError for places that can't hold files, CannotRunHere for missing programs.
    """
    check_programs()
    captures = runs.captures or DEFAULT_CAPTURES
    _check_places(runs.junit, captures)
    captures = captures.absolute()
    tell = _Telling(runs.as_json, runs.verbosity, many=len(starts) > 1)
    worst, reports = 0, []
    for name, start in starts.items():
        code, report = _in_sandbox(name, start, captures, tell, runs)
        worst = worst or code
        if code in (INTERRUPTED, CANNOT):
            return code
        reports.append(report or _without_verdict(name, runs.seed, code))
    if runs.junit is not None:
        _write_junit(runs.junit, reports)
    return worst


def check_programs() -> None:
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

            print(to_json(finished.report, indent=None if self.many else 1, explain=finished.explain))
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
    name: str, start: Start, captures: Path, tell: Callable[[Finished], None], runs: Runs
) -> tuple[int, RunReport | None]:
    """One run in a sandbox of its own: its exit code, and its report when a JUnit file wants it and there is one."""
    import pickle
    import tempfile

    from hoplab.net import sandbox

    _prepare_covered(captures)
    user = _files_owner(captures)
    with tempfile.TemporaryFile() as handed:

        def inside() -> int:
            progress = Progress(name, shown=not runs.as_json)
            report = _run(_apart(start) if runs.as_json else start, captures, user, tell, progress, pause=runs.pause)
            pickle.dump(report if runs.junit is not None else None, handed)
            handed.flush()
            return 0 if report.passed else FAILED

        try:
            # Errors end inside: nothing outside could catch them.
            code = of_sandbox(sandbox.run(lambda: guarded(inside, debug=runs.debug)))
        except sandbox.SandboxRefused as error:
            raise CannotRunHere(str(error)) from error
        handed.seek(0)
        there = os.fstat(handed.fileno()).st_size > 0
        if code == 0 and not there:
            # A script may end the process itself (os._exit): that is no verdict, and nothing that passed.
            say(f"{name}: the run was ended before its verdict")
            return FAILED, None
        return code, pickle.load(handed) if there else None


def _apart(start: Start) -> Start:
    """The same run, with what a script prints on standard error: standard output is for the document alone."""

    def started(zygote: Zygote, crafter: Crafter, folder: Path, note: Note) -> Finished:
        sys.stdout.flush()
        documents = os.dup(1)
        os.dup2(2, 1)
        try:
            return start(zygote, crafter, folder, note)
        finally:
            sys.stdout.flush()
            os.dup2(documents, 1)
            os.close(documents)

    return started


def _files_owner(captures: Path) -> tuple[int, int] | None:
    """Whose the files of a run by root should be: under sudo its caller's, to move and remove them without sudo."""
    if os.geteuid() != 0:
        return None
    from hoplab.setup.environment import owner

    return owner(str(next(folder for folder in (captures, *captures.parents) if folder.exists())))


def _run(
    start: Start,
    captures: Path,
    user: tuple[int, int] | None,
    tell: Callable[[Finished], None],
    progress: Progress,
    *,
    pause: bool,
) -> RunReport:
    """In the sandbox, as process 1."""
    from hoplab.net import sandbox

    _reach(captures)
    sandbox.seal()
    # The two processes that others are forked from start while this one is still small.
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import CrafterProcess

    zygote, crafter = Zygote(), CrafterProcess()
    with progress:
        finished = start(zygote, crafter, captures, progress.note)
    if user is not None and finished.report.artifacts:
        _hand_over(Path(next(iter(finished.report.artifacts.values()))).parent, user)
    tell(finished)
    if pause:
        finished.stay()
    return finished.report


def _hand_over(folder: Path, user: tuple[int, int]) -> None:
    """Give a run's files, and the index above them, to a user."""
    own = (entry.path for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    for path in (str(folder), *own, str(folder.parent / "index.html")):
        with suppress(FileNotFoundError):
            os.chown(path, *user, follow_symlinks=False)


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
