"""`lab.py doctor`: what this machine has and lacks, told to people or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hoplab.doctor.topics import Finding

WIDTH = 80
MARKS = {"ok": ("ok", "green"), "limited": ("limited", "yellow"), "missing": ("missing", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("-v", "--verbose", is_flag=True, help="Say of everything why it matters, not only of what is missing.")
def command(as_json: bool, verbose: bool) -> int:
    """Try on this machine what a lab needs, and tell what is missing, why it matters and how to get it.

    Everything is tried in throw-away namespaces: nothing of it stays.  Ends with 0 when `lab.py scenario external-lb`
    can run, else with 3.
    """
    from hoplab.doctor.examine import examine
    from hoplab.doctor.topics import ready, to_document

    findings = examine()
    if as_json:
        import json

        click.echo(json.dumps(to_document(findings), indent=1))
    else:
        for line in report(findings, verbose):
            click.echo(line)
    return 0 if ready(findings) else 3


def report(findings: Sequence[Finding], verbose: bool) -> Iterator[str]:
    """The findings as lines of at most 80 columns; colours carry nothing that words don't say."""
    from hoplab.doctor.topics import ready

    for finding in findings:
        yield from _lines(finding, verbose)
    yield ""
    hindering = [finding.topic.name for finding in findings if finding.hinders]
    lacking = [f.topic.name for f in findings if not f.hinders and f.state != "ok"]
    if ready(findings):
        yield click.style("Labs can run here.", "green", bold=True)
        if lacking:
            yield from textwrap.wrap(f"Without: {', '.join(lacking)}.", WIDTH)
    else:
        yield click.style("No lab can run here yet.", "red", bold=True)
        yield from textwrap.wrap(f"Missing: {', '.join(hindering)}.", WIDTH)


def _lines(finding: Finding, verbose: bool) -> Iterator[str]:
    word, colour = MARKS.get(finding.state, (finding.state, "yellow"))
    if finding.state == "missing" and not finding.topic.needed:
        colour = "yellow"
    head = f"{finding.topic.name}: {finding.found}" if finding.found else finding.topic.name
    first, *rest = textwrap.wrap(head, WIDTH - 9, break_on_hyphens=False) or [""]
    yield f"{click.style(f'{word:8}', colour)} {first}"
    yield from (f"{'':9}{line}" for line in rest)
    if finding.state == "ok" and not verbose:
        return
    told = [("why", finding.topic.why)]
    if finding.state != "ok":
        told += [("get it", finding.topic.how), ("still works", finding.topic.without)]
    for title, words in told:
        lines = textwrap.wrap(words, WIDTH - 22, break_on_hyphens=False)
        yield from (f"{'':9}{title if at == 0 else '':12} {line}" for at, line in enumerate(lines))
