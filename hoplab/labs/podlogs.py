"""The logs of containers while they are written: whole lines, each with the time at which it came.

A container writes into a plain file, as into the pipe of a real runtime, and plain text
carries no times.  So the file is watched (inotify(7)) from before its first line, and
the lab's loop notes when each line was there.  Noted are places and times alone; the
text stays in the file.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress

from hoplab.api.podaccess import LogLine
from hoplab.kube.store import Store
from hoplab.net import kernel
from hoplab.net.loop import Loop

_EVENT = struct.Struct("iIII")
PIECE = 1 << 16


class LogFile:
    """One file of one run.  Read in any thread, written to by the loop's alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._ends, self._times = array("Q"), array("Q")
        self._size = 0
        self._listeners: list[Callable[[], None]] = []
        self.complete = False
        """Whether the run is over: a last line without an end of line counts, too."""

    def look(self) -> None:
        """Take in what was written since the last look."""
        now, came = time.time_ns(), False
        with self._lock, suppress(FileNotFoundError), open(self.path, "rb") as file:
            file.seek(self._size)
            while piece := file.read(PIECE):
                at = -1
                while (at := piece.find(b"\n", at + 1)) >= 0:
                    self._ends.append(self._size + at + 1)
                    self._times.append(now)
                    came = True
                self._size += len(piece)
        if came:
            self.tell()

    def finish(self) -> None:
        """The run is over: nothing more will come."""
        self.look()
        with self._lock:
            if not self.complete and self._size > (self._ends[-1] if self._ends else 0):
                self._ends.append(self._size)
                self._times.append(time.time_ns())
            self.complete = True
        self.tell()

    def tell(self) -> None:
        """Have whoever follows look again."""
        for listener in tuple(self._listeners):
            listener()

    def lines(self, start: int) -> list[LogLine]:
        """The lines from this number on that are there."""
        with self._lock, suppress(FileNotFoundError), open(self.path, "rb") as file:
            begin = self._ends[start - 1] if 0 < start <= len(self._ends) else 0
            file.seek(begin)
            found = []
            for end, time_ns in zip(self._ends[start:], self._times[start:], strict=True):
                found.append(LogLine(time_ns, "stdout", file.read(end - begin).rstrip(b"\n")))
                begin = end
            return found
        return []

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called after lines came; returns how to stop that."""
        self._listeners.append(changed)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(changed)

        return stop


class LogBook:
    """Every log of the lab, watched by its loop; kept until its pod's object goes."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self._store = store
        self._inotify = kernel.inotify()
        self._runs: dict[tuple[str, str], list[LogFile]] = {}
        """(uid of the pod, container) -> its runs"""
        self._watches: dict[int, LogFile] = {}
        self._swept = -1
        loop.register(self._inotify, self._changed)

    def open(self, uid: str, container: str, path: str) -> None:
        """Watch the file of a new run; called in the loop's thread, before anything is written."""
        runs = self._runs.setdefault((uid, container), [])
        for before in runs:
            before.finish()
        file = LogFile(path)
        with suppress(FileNotFoundError):
            self._watches[kernel.watch_file(self._inotify, path)] = file
        file.look()
        runs.append(file)

    def runs(self, uid: str, container: str) -> Sequence[LogFile]:
        """The logs of a container's runs, the present one last."""
        return tuple(self._runs.get((uid, container), ()))

    def sweep(self) -> None:
        """Remove the logs of pods whose objects have gone, as the kubelet does."""
        version = self._store.version_of("Pod")
        if version == self._swept:
            return
        self._swept = version
        there = {pod.meta.uid for pod in self._store.each("Pod")}
        for key in [key for key in self._runs if key[0] not in there]:
            for file in self._runs.pop(key):
                file.finish()
                shutil.rmtree(os.path.dirname(os.path.dirname(file.path)), ignore_errors=True)

    def _changed(self) -> None:
        changed: dict[int, LogFile] = {}
        with suppress(BlockingIOError):
            while data := os.read(self._inotify, PIECE):
                at = 0
                while at < len(data):
                    watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + length
                    if mask & kernel.IN_IGNORED:
                        # The file has gone, and the watch with it.
                        self._watches.pop(watch, None)
                    elif watch in self._watches:
                        changed[watch] = self._watches[watch]
        for file in changed.values():
            file.look()
