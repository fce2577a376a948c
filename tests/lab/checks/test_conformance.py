"""What kube-proxy does with a flow, as files of tests/conformance, sent as real packets in every mode they hold for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hoplab.checks.parse import read

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "conformance"
MODES = ("iptables", "nftables")
FILES = sorted(FOLDER.glob("*.yaml"))
LEAST = 150
"""Flows in each mode."""


def modes(file: Path) -> tuple[str, ...]:
    """The modes that a file holds for: its name says so where it is only one."""
    named = [mode for mode in MODES if file.name.endswith(f".{mode}.yaml")]
    return tuple(named) or MODES


RUNS = [pytest.param(file, mode, id=f"{file.name.partition('.')[0]}[{mode}]") for file in FILES for mode in modes(file)]


@pytest.mark.lab
@pytest.mark.parametrize(("file", "mode"), RUNS)
def test_every_flow_has_the_outcome_that_kube_proxy_gives(file, mode, tmp_path):
    command = [sys.executable, "-m", "hoplab.cli", "check", str(file), "--proxy-mode", mode]
    done = subprocess.run(
        [*command, "--json", "--captures", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    document = json.loads(done.stdout)
    wrong = [
        f"{c['name']}: expected {c['expected']}, observed {c['observed']}"
        for c in document["checks"]
        if not c["passed"]
    ]
    assert wrong == []
    assert done.returncode == 0
    assert len(document["flows"]) == len(read(file).flows)


@pytest.mark.parametrize("mode", MODES)
def test_there_are_flows_enough_in_each_mode(mode):
    flows = [flow for file in FILES if mode in modes(file) for flow in read(file).flows]
    assert len(flows) >= LEAST


def test_every_file_is_told_of():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in FILES if f"`{file.name}`" not in text] == []
