"""Puts data, styles and scripts into one HTML file.

The data is JSON in a script element that no browser executes; what could end that
element or begin a comment is written as an escape, so no text of a run can become
markup.  The Content-Security-Policy names the hash of the page's own style and script
and forbids everything else: nothing is loaded from anywhere, and a script that slipped
in would not run.  (HTML Living Standard, "Restrictions for contents of script
elements"; CSP Level 3, hash sources.)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from hoplab.report.visible import visible

FOLDER = Path(__file__).parent
STYLES = ("base.css", "walk.css", "parts.css")
SCRIPTS = ("basics.js", "story.js", "map.js", "hop.js", "parts.js", "walk.js", "main.js")
LONGEST_TITLE = 120


def page(kind: str, title: str, runs: Sequence[dict[str, Any]], more: dict[str, Any] | None = None) -> bytes:
    """The page of one run (`kind` run) or of two beside each other (diff); `runs` are page documents."""
    data = embedded({"kind": kind, "runs": list(runs), **(more or {})})
    return _filled("page.html", STYLES, SCRIPTS, title, data)


def index_page(body: str) -> bytes:
    """The page that lists runs; `body` is HTML."""
    return _filled("index.html", ("base.css", "index.css"), ("basics.js", "index.js"), "hoplab: runs", body)


def embedded(data: object) -> str:
    """JSON that may stand in a script element: ASCII, without `<`, `>` and `&`."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shown(text: object, most: int = 200) -> str:
    """Text of unknown origin as HTML: acting characters as escapes, the middle left out beyond `most` characters."""
    return escape(visible(str(text), most))


def _filled(template: str, styles: Sequence[str], scripts: Sequence[str], title: str, content: str) -> bytes:
    style = _read(styles)
    script = '"use strict";\n' + _read(scripts)
    parts = {
        "title": shown(title, LONGEST_TITLE),
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none';"
        " form-action 'none'",
        "style": style,
        "script": script,
        "content": content,
    }
    # Split, not replaced one after the other: a run's text may hold what looks like a place to fill.
    pieces = (FOLDER / template).read_text(encoding="utf-8").split("{{")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        out += (parts[name], rest)
    return "".join(out).encode()


def _read(names: Sequence[str]) -> str:
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
