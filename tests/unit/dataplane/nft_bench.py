"""The little network of nft_network.py, spoken to from a test."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.dataplane.nft_kernel import environment

NETWORK = Path(__file__).with_name("nft_network.py")


class Bench:
    """The little network of nft_network.py, spoken to line by line."""

    def __init__(self) -> None:
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        argv = ["unshare", "--net", "--mount", *user, sys.executable, str(NETWORK)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def _say(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the bench ended"
        return json.loads(line)

    def run(self, *argv: str, stdin: str = "") -> str:
        return str(self._say(do="run", argv=argv, stdin=stdin))

    def start(self, *argv: str) -> None:
        self._say(do="start", argv=argv)

    def load(self, text: str) -> None:
        self.run("nft", "-f", "-", stdin=text)

    def ask(self, *ports: int, protocol: str = "tcp", family: str = "IPv4", seconds: float = 6.0) -> list[str | None]:
        """One flow from each of the client's ports: 'NODE SENDER', 'refused', or None for silence."""
        self.start_asking(*ports, protocol=protocol, family=family, seconds=seconds)
        return self.answers()

    def start_asking(self, *ports: int, protocol: str = "tcp", family: str = "IPv4", seconds: float = 6.0) -> None:
        """As `ask`, but the flows go on while other things happen; `answers` waits for their end."""
        client = ["ip", "netns", "exec", "client", sys.executable, "-S", str(NETWORK), "ask"]
        self.start(*client, family, protocol, json.dumps(ports), str(seconds))

    def answers(self) -> list[str | None]:
        """What `start_asking` got, in the order of the ports."""
        found: list[str | None] = json.loads(self._say(do="collect"))
        return found

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
