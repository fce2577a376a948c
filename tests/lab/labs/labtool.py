"""Calls lab.py as a user does, with a runtime folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect

from tests.host import processes_of
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "scenarios" / "manifests"
SEED = ROOT / "tests" / "fixtures" / "seed"
THIRTY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 30
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {containers: [{name: web, image: hoplab/whoami, ports: [{containerPort: 80}]}]}
"""
"""Thirty pods."""


class User:
    """Somebody with a runtime folder, and a word in the environment by which everything he starts is found."""

    def __init__(self, runtime: Path, prefix: Sequence[str] = ()) -> None:
        self.runtime, self.prefix = runtime, tuple(prefix)
        self.word = uuid.uuid4().hex
        runtime.mkdir(mode=0o700, exist_ok=True)

    def command(self, *arguments: object) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "hoplab.cli", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "HOPLAB_TEST_WORD": self.word,
        }

    def __call__(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
        given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run(self.command(*arguments), cwd=ROOT, env=self.environment, check=False, **given)

    def good(self, *arguments: object, **options: Any) -> str:
        """Standard output of a call that must end with 0."""
        done = self(*arguments, **options)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(self.command(*arguments), cwd=ROOT, env=self.environment, **options)

    def labs(self) -> dict[str, dict[str, Any]]:
        """What `ps` says of each of his labs, by name."""
        return {lab["name"]: lab for lab in json.loads(self.good("ps", "--json"))["labs"]}

    def at_a_terminal(self, *arguments: object, rows: int = 24, columns: int = 80) -> pexpect.spawn[bytes]:
        """The call as somebody types it: a session of its own with a controlling terminal of this size, in characters.

        Expecting words takes off what was heard up to their end: a prompt that came along is still to be heard.
        """
        program, *rest = self.command(*arguments)
        return pexpect.spawn(program, rest, cwd=str(ROOT), env=self.environment, dimensions=(rows, columns), timeout=20)

    def processes(self) -> list[str]:
        """What still runs of all that he started."""
        return processes_of(self.word)


@contextmanager
def somebody(runtime: Path, prefix: Sequence[str] = ()) -> Iterator[User]:
    """A user whose labs end with the block, whatever happens in it, and leave nothing."""
    user = User(runtime, prefix)
    try:
        yield user
    finally:
        user("down", "--all")
        until(lambda: not user.processes(), "the end of everything that was started")
