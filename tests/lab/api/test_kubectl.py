"""The real kubectl, unmodified, types the calls of calls.yaml at the API and must get what stands there."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.api.rig import Lab, Rig, kubectl_path

pytestmark = pytest.mark.needs("kubectl")
TABLE = yaml.safe_load((Path(__file__).parent / "calls.yaml").read_text(encoding="utf-8"))
OLD = "1.20"


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


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def matches(found: str, expected: str) -> bool:
    """Line by line; `…` is anything within a line, a line `...` any number of lines."""
    pattern = ""
    for line in lines(expected):
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", line)) + r"\n"
    if lines(expected)[-1:] == ["..."]:
        pattern += r"(?:.*\n)*"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines(found))) is not None


def is_old(program: str) -> bool:
    import subprocess

    shown = subprocess.run([program, "version", "--client"], capture_output=True, text=True).stdout
    return "v1.2" in shown


def arguments(text: str) -> list[str]:
    """Words; JSON and templates have quotes of their own, so only spaces outside of brackets part them."""
    if '"' not in text and "'" not in text:
        return text.split()
    if re.search(r"[{\[]", text) is None:
        return shlex.split(text)
    before, _space, patch = text.partition(" -p ")
    return [*before.split(), "-p", patch]


@pytest.mark.lab
def test_a_lab_answers_every_call_of_the_table_as_it_stands_there(tmp_path):
    with Lab(tmp_path) as lab:
        type_all(lab, kubectl_path("own"))


def test_an_old_kubectl_is_answered_too(tmp_path):
    """Debian's, which knows the API as it was in 1.20, SPDY alone and protobuf for OpenAPI."""
    with Rig(tmp_path) as rig:
        type_all(rig, kubectl_path("debian"))


def type_all(shop, program):
    old, wrong, done = is_old(program), [], 0
    for file, text in TABLE["files"].items():
        (shop.folder / file).write_text(text)
    for call in CALLS:
        if (call.new and old) or (call.old and not old):
            continue
        done += 1
        ran = shop.kubectl(program, *arguments(call.run), stdin=call.input, env=call.env)
        heard = matches(ran.stderr, call.err) or (old and not call.old)
        if ran.returncode != call.exit or not matches(ran.stdout, call.out) or not heard:
            wrong.append(report(call, ran))
    assert not wrong, f"{len(wrong)} of {done} calls of {program}:\n\n" + "\n\n".join(wrong)
    assert done >= 80


def report(call: Call, ran: Any) -> str:
    def part(title: str, expected: str, found: str) -> str:
        return f"  {title} expected:\n{expected}\n  {title} found:\n{found}"

    parts = [f"$ kubectl {call.run}"]
    if ran.returncode != call.exit:
        parts.append(f"  exit expected {call.exit}, found {ran.returncode}")
    if not matches(ran.stdout, call.out):
        parts.append(part("out", call.out, ran.stdout))
    if not matches(ran.stderr, call.err):
        parts.append(part("err", call.err, ran.stderr))
    return "\n".join(parts)
