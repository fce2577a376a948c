"""captures/index.html: every run that left something there, newest first.

Each run leaves a small `summary.json` beside its files, and the index is made from
these.  Two runs may end at once: whoever has written the index looks again, and writes
anew when a summary has come or changed meanwhile.  So the last one to write has seen
every summary, without a lock that a killed run could keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hoplab.report.artifacts import write_artifact
from hoplab.report.page.writing import index_page, shown

SUMMARY = "summary.json"
INDEX = "index.html"
MOST_LOOKS = 8
"""Runs that end at the very same time, of which each makes the others look again."""
MOST_BYTES = 100_000
"""A summary is some hundred bytes; what is larger is none."""
USUAL = {
    "balancer": "hash",
    "balancer-mode": "nat",
    "proxy-mode": "iptables",
    "fabric": "routes",
    "kubernetes": "1.33",
}
"""Options that go without saying in a list; the run's own page has all of them."""
LINKS = (
    ("run.html", "page"),
    ("run.pcapng", "pcapng"),
    ("story.txt", "story"),
    ("run.json", "JSON"),
)


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """What the index tells of a run, from its JSON."""
    checks = document["checks"]
    failed = [check["name"] for check in checks if not check["passed"]]
    return {
        "version": 1,
        **{key: document[key] for key in ("scenario", "passed", "seed", "started", "options")},
        "total_s": document["timings_s"].get("total"),
        "checks": len(checks),
        "failed": len(failed),
        "first_failure": failed[0][:300] if failed else "",
        "flows": len(document["flows"]),
    }


def write_index(captures: Path) -> None:
    """Write the index of a folder of runs.  Raises ArtifactError."""
    for _look in range(MOST_LOOKS):
        before = _signature(captures)
        write_artifact(captures / INDEX, index_page(_body(captures)))
        if _signature(captures) == before:
            return


def _signature(captures: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(captures.glob(f"*/{SUMMARY}")):
        try:
            about = path.stat()
        except OSError:
            continue
        found.append((str(path), about.st_mtime_ns, about.st_ino))
    return found


def _body(captures: Path) -> str:
    runs, others = [], []
    for folder in sorted(path for path in captures.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [(name, word) for name, word in LINKS if (folder / name).is_file()]
        try:
            about = _read(folder / SUMMARY)
        except (OSError, ValueError, RecursionError) as error:
            others.append(_other(folder, files, error))
            continue
        runs.append((str(about["started"]), folder.name, _row(folder, about, files)))
    rows = [row for _when, _name, row in sorted(runs, key=lambda run: (run[0], run[1]), reverse=True)]
    passed = sum('class="verdict good"' in row for row in rows)
    told = f"{len(rows)} run{'' if len(rows) == 1 else 's'}, {passed} passed, {len(rows) - passed} failed"
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table><thead><tr><th scope="col">Scenario'
        '</th><th scope="col">Verdict</th><th scope="col">Checks</th><th scope="col">When (UTC)</th><th scope="col">'
        'Took</th><th scope="col">Seed</th><th scope="col">Options</th><th scope="col">Files</th></tr></thead><tbody>'
        + "".join(rows)
        + "</tbody></table></div>"
        if rows
        else "<p>No run has left anything here yet.</p>"
    )
    rest = f'<h2>Folders that tell nothing</h2><ul class="others">{"".join(others)}</ul>' if others else ""
    return f'<p class="count">{told}</p>{table}{rest}'


def _read(path: Path) -> dict[str, Any]:
    """A summary.  Raises OSError, ValueError for one that is none."""
    with open(path, "rb") as stream:
        raw = stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError("too large for a summary")
    about = json.loads(raw)
    wanted = {"scenario": str, "passed": bool, "started": str, "options": dict, "checks": int, "failed": int}
    if not isinstance(about, dict) or not all(isinstance(about.get(key), kind) for key, kind in wanted.items()):
        raise ValueError("not a summary of a run")
    return about


def _row(folder: Path, about: dict[str, Any], files: list[tuple[str, str]]) -> str:
    name = shown(about["scenario"], 80)
    if ("run.html", "page") in files:
        name = f'<a href="{quote(folder.name)}/run.html">{name}</a>'
    verdict = (
        '<span class="verdict good">✓ passed</span>'
        if about["passed"]
        else ('<span class="verdict bad">✗ failed</span>')
    )
    first = f'<span class="first">{shown(about.get("first_failure"), 160)}</span>' if about.get("first_failure") else ""
    total = about.get("total_s")
    took = f"{total:.2f} s" if isinstance(total, int | float) else ""
    options = " ".join(_options(about["options"]))
    held = f"{about['checks'] - about['failed']} of {about['checks']}"
    return (
        f'<tr><th scope="row">{name}</th><td>{verdict}{first}</td><td>{held}</td>'
        f"<td>{shown(about['started'].replace('T', ' ').rstrip('Z'), 40)}</td><td>{took}</td>"
        f'<td>{shown(about.get("seed", ""), 20)}</td><td class="options">{options}</td>'
        f'<td class="files">{_links(folder, files)}</td></tr>'
    )


def _options(options: dict[str, Any]) -> Iterator[str]:
    """Where it ran, and what was chosen beside the usual."""
    rest = {key: value for key, value in options.items() if USUAL.get(key) != value}
    where = [str(rest.pop(key)) for key in ("topology",) if key in rest]
    if "nodes" in options:
        rest.pop("nodes", None)
        where.append(f"{options['nodes']} node{'' if options['nodes'] == '1' else 's'}")
    if where:
        yield f"<span>{shown(', '.join(where), 60)}</span>"
    yield from (f"<span>{shown(key, 40)} <b>{shown(value, 40)}</b></span>" for key, value in rest.items())


def _other(folder: Path, files: list[tuple[str, str]], error: Exception) -> str:
    why = "no summary" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
    return f"<li>{shown(folder.name, 80)} <span>({shown(why, 120)})</span> {_links(folder, files)}</li>"


def _links(folder: Path, files: list[tuple[str, str]]) -> str:
    named = shown(folder.name, 80)
    return " ".join(
        f'<a href="{quote(folder.name)}/{name}" aria-label="{word} of {named}">{word}</a>' for name, word in files
    )
