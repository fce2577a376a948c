"""`lab.py trace` and `lab.py capture`: what happens to packets in a running lab."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoplab.cli.choices import cluster_options, files_option, lab_option, namespace_option
from hoplab.cli.endings import FAILED, say
from hoplab.errors import InputError

if TYPE_CHECKING:
    from hoplab.labs.tracing import Question
    from hoplab.net.zygote import Zygote
    from hoplab.probe.crafter import Crafter
    from hoplab.scenario.acting import Finished
    from hoplab.scenario.notes import Note


@click.command()
@click.argument("sender", metavar="FROM")
@click.argument("to", metavar="TO")
@click.option("--proto", "transport", type=click.Choice(["tcp", "udp", "icmp"]), default="tcp", show_default=True)
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many probes.")
@click.option("--size", type=click.IntRange(0, 100_000), default=0, help="Send at least so many bytes.")
@click.option("--source-port", type=click.IntRange(1, 65535), help="From this port, and the next ones.")
@namespace_option
@lab_option
@click.option("--json", "as_json", is_flag=True, help="The JSON document of a run on standard output.")
@click.option("-v", "--verbose", count=True, help="Tell every flow in full, and every rule that a packet met.")
@click.option("-q", "--quiet", is_flag=True, help="One line.")
@files_option("Trace in a fresh lab with these objects instead.")
@click.option("--topology", default="cloud", show_default=True, help="Of the fresh lab.")
@cluster_options
@click.pass_obj
def trace(
    debug: bool,
    /,
    sender: str,
    to: str,
    transport: str,
    count: int,
    size: int,
    source_port: int | None,
    namespace: str,
    name: str | None,
    as_json: bool,
    verbose: int,
    quiet: bool,
    files: tuple[Path, ...],
    topology: str,
    **given: Any,
) -> int:
    """Send a probe FROM somewhere TO somewhere and tell its story, hop by hop, there and back.

    Both are client, lb, node1, pod/NAME or an address; TO may be svc/NAME[:PORT], and have a :PORT.  The exit code
    is 0 when every probe was answered, else 1.
    """
    verbosity = -1 if quiet else min(verbose, 1)
    if files:
        if name is not None:
            raise InputError("--name and -f: a running lab or a fresh one; choose one of them")
        from hoplab.labs.tracing import Question

        question = Question(sender, to, namespace, transport, count, size, source_port or 0)
        return _fresh(question, files, topology, given, as_json=as_json, verbosity=verbosity, debug=debug)
    from hoplab.labs import asking
    from hoplab.labs.protocol import Trace

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    columns = shutil.get_terminal_size((80, 24)).columns
    sent = (sender, to, namespace, transport, count, size, source_port or 0)
    request = Trace(*sent, as_json, verbosity, columns, colour)
    message, _descriptors = asking.answer(asking.ask(name, request))
    sys.stdout.write(message["text"])
    return 0 if message["passed"] else FAILED


def _fresh(
    question: Question,
    files: tuple[Path, ...],
    topology: str,
    given: dict[str, Any],
    *,
    as_json: bool,
    verbosity: int,
    debug: bool,
) -> int:
    from hoplab.cli.life import DEFAULT_NODES
    from hoplab.cli.runs import Runs, run_all
    from hoplab.kube.load import load_files
    from hoplab.labs.targets import parse
    from hoplab.scenario.options import RunOptions

    parse(question.sender), parse(question.to)
    options = RunOptions(**given).cluster(topology, DEFAULT_NODES)
    loaded = load_files(files)

    def start(zygote: Zygote, crafter: Crafter, captures: Path, note: Note) -> Finished:
        from hoplab.labs.running import known
        from hoplab.labs.tracing import send
        from hoplab.scenario.lab import Lab
        from hoplab.scenario.runner import in_cluster

        def play(lab: Lab) -> None:
            send(lab, question, known(lab.cluster))

        return in_cluster("trace", "trace", options, loaded, captures, play, zygote, crafter, note=note)

    return run_all({"trace": start}, Runs(as_json, verbosity, None, None, given["seed"], debug=debug))


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option("-w", "--write", "path", type=click.Path(path_type=Path), help="The file to write.")
@click.option("--live", is_flag=True, help="Write to standard output: | wireshark -k -i -")
@click.option("-c", "--count", type=click.IntRange(1), help="End after so many frames.")
@namespace_option
@lab_option
def capture(
    targets: tuple[str, ...], path: Path | None, live: bool, count: int | None, namespace: str, name: str | None
) -> int:
    """Capture in a running lab, in every namespace or in these, as pcapng; ends with Ctrl-C or --count.

    Each interface has its name in the file (node1:eth0, pod/a:eth0), so that one file tells a packet's whole way.
    """
    if live == (path is not None):
        raise InputError("say where the frames go: -w FILE, or --live for standard output")
    if live and os.isatty(1):
        raise InputError("--live writes binary data, and standard output is a terminal: add | wireshark -k -i -")
    from hoplab.labs import asking
    from hoplab.labs.capturing import Tap, record
    from hoplab.labs.protocol import Capture

    tap = Tap(asking.ask(name, Capture(targets, namespace)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: tap.stop())
    if live:
        try:
            record(tap, sys.stdout.buffer, count)
        except BrokenPipeError:
            # Wireshark was closed: that is how a live capture ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        assert path is not None
        try:
            with open(path, "wb") as file:
                frames = record(tap, file, count)
        except OSError as error:
            raise InputError(f"-w {path}: {error.strerror}") from error
    for place, lost in tap.lost().items():
        say(f"note: {lost} frames in {place} found no room and are missing")
    if not live:
        say(f"{frames} frames in {path}")
    return 0
