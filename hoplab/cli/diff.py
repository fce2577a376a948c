"""`lab.py diff`: two runs beside each other, the first divergence first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hoplab.report.diff import Comparison
    from hoplab.report.json_report import Document


@click.command()
@click.argument("left", metavar="RUN")
@click.argument("right", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write both runs as one page, too.")
def command(left: str, right: str, as_json: bool, page: Path | None) -> int:
    """Compare two runs: what was seen in one and not in the other, the first divergence first.

    A RUN is a folder that a run left, its run.json, or its name in captures/.  To compare a scenario with itself under
    other options, give the second run a folder of its own: --captures FOLDER.

    Ends with 0 when both saw the same, 1 when they differ, 2 when one of them is no run.
    """
    from hoplab.cli.runs import DEFAULT_CAPTURES
    from hoplab.report.diff import compare
    from hoplab.report.reading import find_run, read_run

    paths = find_run(left, DEFAULT_CAPTURES), find_run(right, DEFAULT_CAPTURES)
    runs = read_run(paths[0]), read_run(paths[1])
    found = compare(*runs)
    written = page if page is not None and _write_page(page, found, runs, paths) else None
    if as_json:
        import json

        click.echo(json.dumps(_document(found, runs, paths, written), indent=1))
    else:
        from rich.console import Console

        from hoplab.report.diff_text import print_comparison

        print_comparison(found, *runs, (str(paths[0]), str(paths[1])), Console(highlight=False))
        if written is not None:
            click.echo(f"page       {written}")
    return 0 if found.same else 1


def _document(
    found: Comparison, runs: tuple[Document, Document], paths: tuple[Path, Path], page: Path | None
) -> Document:
    sides = {
        side: {"path": str(path), **{key: run[key] for key in ("scenario", "passed", "seed", "started", "options")}}
        for side, run, path in zip(("left", "right"), runs, paths, strict=True)
    }
    return {
        "version": 1,
        "same": found.same,
        **sides,
        "settings": [{"name": name, "left": one, "right": other} for name, one, other in found.settings],
        "differences": [asdict(one) for one in found.differences],
        "ignored": list(found.ignored),
        "artifacts": {"page": str(page)} if page else {},
    }


def _write_page(path: Path, found: Comparison, runs: tuple[Document, Document], paths: tuple[Path, Path]) -> bool:
    """Write the page; whether it could be.  The comparison is told all the same."""
    from hoplab.cli.endings import say
    from hoplab.report.artifacts import ArtifactError, write_artifact
    from hoplab.report.diff import with_facts
    from hoplab.report.page.document import BUDGET, CHECKS_BUDGET, short, trimmed
    from hoplab.report.page.writing import page

    told = [
        {
            **trimmed(with_facts(run, other), budget=BUDGET // 2, checks_budget=CHECKS_BUDGET // 2),
            "folder": str(at.parent),
        }
        for run, other, at in zip(runs, runs[::-1], paths, strict=True)
    ]
    more = {
        "diff": {
            "same": found.same,
            "ignored": list(found.ignored),
            "settings": [list(one) for one in found.settings],
            "differences": [
                {**asdict(one), **{side: short(getattr(one, side), 300) for side in ("where", "left", "right")}}
                for one in found.differences[:100]
            ],
            "count": len(found.differences),
        }
    }
    try:
        write_artifact(path, page("diff", f"{runs[0]['scenario']} beside {runs[1]['scenario']}", told, more))
    except ArtifactError as error:
        say(str(error))
        return False
    return True
