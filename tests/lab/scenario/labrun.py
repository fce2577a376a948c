"""Runs scenarios from tests: in a sandbox of their own, with a sabotage, handing the report back."""

from __future__ import annotations

import pickle
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hoplab.net import sandbox


def in_sandbox(function: Callable[[], Any]) -> Any:
    """What `function` returns when it runs as process 1 of a fresh sandbox; its exception is raised here."""
    with tempfile.TemporaryFile() as handed:

        def main() -> int:
            try:
                outcome = (True, function())
            except Exception as error:
                outcome = (False, handed_over(error))
            pickle.dump(outcome, handed)
            handed.flush()
            return 0

        code = sandbox.run(main)
        handed.seek(0)
        assert code == 0, f"the sandbox ended with {code}"
        good, value = pickle.load(handed)
        if not good:
            raise value
        return value


def handed_over(error: Exception) -> Exception:
    """The error itself where pickle can make it again, else one with its name and words; with its trace as a note."""
    where = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(where)
    return error


def run_scenario(name: str, captures: Path, sabotage: Callable[[Any], None] | None = None, **options: Any) -> Any:
    """The RunReport of one run."""

    def inside() -> Any:
        from hoplab.net.zygote import Zygote
        from hoplab.probe.crafter import CrafterProcess

        zygote, crafter = Zygote(), CrafterProcess()
        from hoplab.scenario.options import RunOptions
        from hoplab.scenario.runner import run

        return run(name, RunOptions(captures=captures, **options), zygote, crafter, sabotage=sabotage).report

    return in_sandbox(inside)
