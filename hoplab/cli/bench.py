"""`lab.py bench`: how long things take on this machine, as figures of one run that can be compared with each other.

Machines are shared and drift, so what counts is the ratio of two figures measured in
turn: a whole command against what Python itself needs to start.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from hoplab.dataplane.config import ProxyMode
from hoplab.errors import HoplabError, InputError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: seconds of each run, and what it is compared with."""

    name: str
    seconds: tuple[float, ...]
    against: str = ""
    ratio: float = 0.0

    @property
    def median(self) -> float:
        """The middle run's seconds."""
        return statistics.median(self.seconds)


def _timed(arguments: Sequence[str]) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    took = time.perf_counter() - started
    if done.returncode != 0:
        raise HoplabError(f"`{' '.join(arguments)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return took


def in_turn(commands: Mapping[str, Sequence[str]], runs: int) -> list[Figure]:
    """Every command `runs` times after one warm-up, A B C A B C ...; each but the first as a ratio to the first."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, arguments in commands.items():
            seconds = _timed(arguments)
            if number:
                taken[name].append(seconds)
    first = next(iter(commands))
    found = [Figure(first, tuple(taken[first]))]
    for name in list(commands)[1:]:
        pairs = [mine / base for mine, base in zip(taken[name], taken[first], strict=True)]
        found.append(Figure(name, tuple(taken[name]), first, statistics.median(pairs)))
    return found


def _external_lb(runs: int) -> list[Figure]:
    lab = [sys.executable, str(ROOT / "lab.py")]
    with tempfile.TemporaryDirectory() as captures:
        whole = [*lab, "scenario", "external-lb", "-q", "--captures", captures]
        return in_turn(
            {
                "python start": [sys.executable, "-c", "pass"],
                "lab.py start": [*lab, "--version"],
                "scenario external-lb": whole,
                "scenario external-lb, nftables": [*whole, "--proxy-mode", "nftables"],
            },
            runs,
        )


def _rules(runs: int) -> list[Figure]:
    from hoplab.cli.bench_rules import ENDPOINTS, SERVICES, measure

    found = []
    for mode in MODES:
        taken = [measure(mode) for _run in range(runs)]
        what = f"{SERVICES} Services of {ENDPOINTS}, {mode}"
        loader = "iptables-restore" if mode == "iptables" else "nft -f"
        from_file = Figure(f"{what}: {loader} alone", tuple(each.from_file for each in taken))
        loading = tuple(each.synced - each.text for each in taken)
        synced = tuple(each.synced for each in taken)
        changed = tuple(each.changed for each in taken)
        found += [
            Figure(f"{what}: the text", tuple(each.text for each in taken)),
            from_file,
            _against(f"{what}: loading it", loading, from_file),
            (whole := Figure(f"{what}: whole sync", synced)),
            _against(f"{what}: one changed endpoint", changed, whole),
        ]
    return found


def _against(name: str, seconds: tuple[float, ...], base: Figure) -> Figure:
    pairs = [mine / theirs for mine, theirs in zip(seconds, base.seconds, strict=True)]
    return Figure(name, seconds, base.name.partition(": ")[2], statistics.median(pairs))


def _pcapng(runs: int) -> list[Figure]:
    from hoplab.cli.bench_pcapng import GIGABYTE, measure

    with tempfile.TemporaryDirectory() as folder:
        taken = [measure(GIGABYTE, Path(folder)) for _run in range(runs)]
    most = max(each.grew for each in taken)
    return [Figure(f"1 GB of frames, {most / 1e6:.1f} MB of memory", tuple(each.seconds for each in taken))]


MODES: tuple[ProxyMode, ...] = ("iptables", "nftables")
BENCHES: Mapping[str, Callable[[int], list[Figure]]] = {"external-lb": _external_lb, "rules": _rules, "pcapng": _pcapng}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Counted runs of each command.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def command(names: tuple[str, ...], runs: int, as_json: bool) -> int:
    """Measure, in turn and as ratios; without NAMES everything there is.

    external-lb: the whole command, against Python's own start.  rules: what 5,000 Services cost (minutes a run).
    pcapng: 1 GB of frames as a capture file, in a temporary folder.
    """
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise InputError(f"no bench is called {unknown[0]!r}; there are {', '.join(BENCHES)}")
    document = {}
    for name in names or tuple(BENCHES):
        figures = BENCHES[name](runs)
        document[name] = [
            {"name": f.name, "median_s": f.median, "runs_s": f.seconds, "against": f.against, "ratio": f.ratio}
            for f in figures
        ]
        if not as_json:
            click.echo(f"{name}, median of {runs} runs:")
            for f in figures:
                ratio = f"  {f.ratio:8.3f} x {f.against}" if f.against else ""
                click.echo(f"  {f.name:52} {f.median:7.3f} s  ({min(f.seconds):.3f} .. {max(f.seconds):.3f}){ratio}")
    if as_json:
        click.echo(json.dumps(document, indent=1))
    return 0
