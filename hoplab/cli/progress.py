"""What a command waits for, as one line on the terminal, once it has taken longer than a second.

The line is on standard error and gone again before anything else is printed.  Where
standard error is no terminal, nothing is ever shown.  A thread shows it, so that it
moves also while the run waits; it is told by `note` what for.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

PATIENCE_S = 1.0
"""A shorter wait needs no explanation."""
BEAT_S = 0.12


class Progress:
    """Used around a wait: `with Progress("external-lb", shown=True) as progress: ... progress.note("...")`."""

    def __init__(self, label: str, *, shown: bool) -> None:
        self._label, self._what = label, "its start"
        self._since = time.monotonic()
        self._over = threading.Event()
        wanted = shown and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._thread = threading.Thread(target=self._show, daemon=True) if wanted else None

    def note(self, what: str) -> None:
        """What is being waited for from now on."""
        self._what = what

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def line(self) -> str:
        """The line as it is shown now."""
        from hoplab.report.visible import visible

        return visible(f"{self._label}: waiting for {self._what} ({time.monotonic() - self._since:.0f} s)", 76)

    def _show(self) -> None:
        if self._over.wait(PATIENCE_S):
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        class Steady(Console):
            """A console that leaves the cursor alone: whoever is killed could not show it again."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = Steady(stderr=True)
        spinner = Spinner("line", Text(self.line(), no_wrap=True))
        # Standard output is the story's: nothing of it may be led elsewhere.
        with Live(
            spinner, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as live:
            while not self._over.wait(BEAT_S):
                spinner.update(text=Text(self.line(), no_wrap=True))
                live.refresh()
