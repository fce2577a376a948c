"""Runs a test's body as process 1 of a fresh sandbox: real namespaces, and nothing of it stays."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import pytest

from hoplab.net import sandbox

InSandbox = Callable[[Callable[[], None]], None]


@pytest.fixture
def in_sandbox(capfd: pytest.CaptureFixture[str]) -> InSandbox:
    """Call it with a function; a failure inside fails the test with the inner traceback."""

    def run(body: Callable[[], None]) -> None:
        def main() -> int:
            try:
                body()
            except BaseException:
                traceback.print_exc(file=sys.stderr)
                return 1
            return 0

        code = sandbox.run(main)
        told = capfd.readouterr().err
        if code != 0:
            pytest.fail(f"inside the sandbox (exit code {code}):\n{told}", pytrace=False)

    return run
