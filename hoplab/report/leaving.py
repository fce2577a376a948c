"""What a run leaves in its folder: capture, story, JSON, page, and its line in the index of all runs.

A file that can't be written costs no verdict: it becomes a problem of the report, one
for all files that the same cause prevented.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hoplab.report.artifacts import ArtifactError, write_artifact
from hoplab.report.json_report import to_document
from hoplab.report.page.document import page_document
from hoplab.report.page.index import INDEX, SUMMARY, summary, write_index
from hoplab.report.page.writing import page
from hoplab.report.run import Explain, RunReport
from hoplab.report.text import story_text

FILES = {"pcapng": "run.pcapng", "story": "story.txt", "json": "run.json", "page": "run.html"}
"""Kind of artifact -> its file's name."""


def leave(report: RunReport, folder: Path, explain: Explain, capture: Callable[[Path], None]) -> RunReport:
    """Write a run's files into `folder`, the capture by `capture`; the report with their paths and what went wrong."""
    paths = {kind: folder / name for kind, name in FILES.items()}
    given = report.problems
    refused: dict[str, list[str]] = {}

    def write(kind: str, do: Callable[[Path], None]) -> None:
        try:
            do(paths[kind])
        except ArtifactError as error:
            # What an earlier run left under this name would be taken for this one's.
            with suppress(OSError):
                paths[kind].unlink()
            del paths[kind]
            refused.setdefault(error.why, []).append(error.path.name)

    write("pcapng", capture)
    report = replace(
        report,
        artifacts={kind: str(path) for kind, path in paths.items()},
        problems=(*given, *_problems(folder, refused)),
    )
    document = to_document(report, explain)
    write("story", lambda path: write_artifact(path, story_text(report, explain=explain).encode()))
    write("json", lambda path: write_artifact(path, json.dumps(document, indent=1).encode()))
    write("page", lambda path: write_artifact(path, page("run", report.scenario, [page_document(report, document)])))
    if paths:
        try:
            write_artifact(folder / SUMMARY, json.dumps(summary(document), indent=1).encode())
            write_index(folder.parent)
        except ArtifactError as error:
            where = error.path.name if error.path.parent == folder else f"../{INDEX}"
            refused.setdefault(error.why, []).append(where)
    return replace(
        report,
        artifacts={kind: str(path) for kind, path in paths.items()},
        problems=(*given, *_problems(folder, refused)),
    )


def _problems(folder: Path, refused: dict[str, list[str]]) -> list[str]:
    return [
        f"{folder}: {' and '.join(', '.join(names).rsplit(', ', 1))} {'was' if len(names) == 1 else 'were'}"
        f" not written: {why}"
        for why, names in refused.items()
    ]
