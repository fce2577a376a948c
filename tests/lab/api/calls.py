"""The calls of calls.yaml: types each of them with a real kubectl, and holds what it prints against the table."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.lab.api.rig import Shop

TABLE = yaml.safe_load((Path(__file__).parent / "calls.yaml").read_text(encoding="utf-8"))


@dataclass
class Call:
    """One row of the table."""

    run: str
    out: str = "..."
    err: str = ""
    exit: int = 0
    new: bool = False
    old: bool = False
    env: dict[str, str] = field(default_factory=dict)
    input: str = ""


CALLS = [Call(**{("input" if key == "in" else key): value for key, value in row.items()}) for row in TABLE["calls"]]


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def _matches(found: str, expected: str) -> bool:
    """Line by line; `…` is anything within a line, a line `...` any number of lines."""
    pattern = ""
    for line in _lines(expected):
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", line)) + r"\n"
    if _lines(expected)[-1:] == ["..."]:
        pattern += r"(?:.*\n)*"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(found))) is not None


def _is_old(program: str) -> bool:
    shown = subprocess.run([program, "version", "--client"], capture_output=True, text=True).stdout
    return "v1.2" in shown


def _arguments(text: str) -> list[str]:
    """Words; JSON and templates have quotes of their own, so only spaces outside of brackets part them."""
    if '"' not in text and "'" not in text:
        return text.split()
    if re.search(r"[{\[]", text) is None:
        return shlex.split(text)
    before, _space, patch = text.partition(" -p ")
    return [*before.split(), "-p", patch]


def type_all(shop: Shop, program: str) -> None:
    """Type the whole table at something fresh; every row that is not answered as it stands there is an error."""
    old, wrong, done = _is_old(program), [], 0
    for file, text in TABLE["files"].items():
        (shop.folder / file).write_text(text)
    for call in CALLS:
        if (call.new and old) or (call.old and not old):
            continue
        done += 1
        ran = shop.kubectl(program, *_arguments(call.run), stdin=call.input, env=call.env)
        heard = _matches(ran.stderr, call.err) or (old and not call.old)
        if ran.returncode != call.exit or not _matches(ran.stdout, call.out) or not heard:
            wrong.append(_report(call, ran))
    assert not wrong, f"{len(wrong)} of {done} calls of {program}:\n\n" + "\n\n".join(wrong)
    assert done >= 80


def _report(call: Call, ran: Any) -> str:
    def part(title: str, expected: str, found: str) -> str:
        return f"  {title} expected:\n{expected}\n  {title} found:\n{found}"

    parts = [f"$ kubectl {call.run}"]
    if ran.returncode != call.exit:
        parts.append(f"  exit expected {call.exit}, found {ran.returncode}")
    if not _matches(ran.stdout, call.out):
        parts.append(part("out", call.out, ran.stdout))
    if not _matches(ran.stderr, call.err):
        parts.append(part("err", call.err, ran.stderr))
    return "\n".join(parts)
