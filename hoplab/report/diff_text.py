"""Two compared runs for a terminal: what was chosen differently, then every difference, the first one first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.text import Text

from hoplab.report.diff import Comparison, Difference
from hoplab.report.json_report import Document
from hoplab.report.text import LONGEST, line_of
from hoplab.report.visible import visible

MOST = 60
"""Differences told in a terminal; the JSON and the page have all."""


def print_comparison(
    found: Comparison, left: Document, right: Document, paths: tuple[str, str], console: Console
) -> None:
    """Print a comparison; 80 columns are enough."""
    console.print(Group(*_told(found, left, right, paths)), highlight=False)


def _told(found: Comparison, left: Document, right: Document, paths: tuple[str, str]) -> Iterator[RenderableType]:
    for letter, run, path in (("A", left, paths[0]), ("B", right, paths[1])):
        verdict = ("passed", "bold green") if run["passed"] else ("FAILED", "bold red")
        head = Text.assemble((f"{letter}  ", "bold"), (visible(run["scenario"], LONGEST), "bold cyan"), "  ", verdict)
        head.append(f"  seed {run['seed']}  {visible(path, LONGEST)}", "dim")
        yield line_of(0, head)
    for name, one, other in found.settings:
        words = f"chosen differently: {visible(name, 60)}  A {visible(one, 80)}  B {visible(other, 80)}"
        yield line_of(0, Text(words, "magenta"))
    yield Text("")
    for number, (where, group) in enumerate(groupby(found.differences[:MOST], key=lambda one: one.where)):
        if number == 0:
            yield Text("First divergence", "bold underline")
        elif number == 1:
            yield Text("")
            yield Text("After it", "bold underline")
        yield line_of(2, Text(visible(where, LONGEST), "bold"))
        for difference in group:
            yield from _difference(difference)
    if len(found.differences) > MOST:
        yield line_of(2, Text(f"and {len(found.differences) - MOST} more: --json and --page have all"))
    if found.differences:
        yield Text("")
    yield line_of(0, Text(f"Not compared: {'; '.join(found.ignored)}.", "dim"))
    count = len(found.differences)
    last = "Both runs saw the same." if found.same else f"{count} difference{'' if count == 1 else 's'}."
    yield Text(last, "bold green" if found.same else "bold yellow")


def _difference(one: Difference) -> Iterator[RenderableType]:
    yield line_of(4, Text.assemble(f"{visible(one.what, 40):<12} ", ("A  ", "bold"), visible(one.left, 2 * LONGEST)))
    yield line_of(4, Text.assemble(" " * 13, ("B  ", "bold"), (visible(one.right, 2 * LONGEST), "yellow")))
