"""Loading manifests takes text and gives values: nothing that talks to a kernel or a network is even imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
HEAVY = ("asyncio", "difflib", "hoplab.net", "jsonschema", "pyroute2", "scapy", "socket", "subprocess")


def test_the_loader_imports_nothing_heavy() -> None:
    words = "import sys, hoplab.kube.load, hoplab.kube.allocate, hoplab.kube.store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "hoplab.kube.load" in imported
    assert not imported & set(HEAVY)
