"""What a large capture costs: frames made one by one, written as a file, and the memory that this took.

Memory is the kernel's word (VmHWM, proc(5)), of a process of its own that does nothing else:
what a writer holds on to shows there, however it holds it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hoplab.errors import HoplabError
from hoplab.hops.evidence import Frame
from hoplab.report.pcapng import write_pcapng

GIGABYTE = 1_000_000_000
FRAME = 1400
"""Bytes of each frame."""
NAME = "large.pcapng"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one file: how long it took, by how many bytes its process grew, how large it is, how many frames it has."""

    seconds: float
    grew: int
    size: int
    frames: int


def measure(size: int, folder: Path) -> Cost:
    """Write about `size` bytes of frames to NAME in `folder`, in a process of its own.  Raises HoplabError."""
    command = [sys.executable, "-P", "-m", __name__, str(size), str(folder)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode != 0:
        raise HoplabError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr[-500:]}")
    return Cost(**json.loads(done.stdout))


def _frames(size: int) -> Iterator[Frame]:
    for number in range(1, size // FRAME + 1):
        interface = f"eth{number % 7}"
        yield Frame(number, 1_700_000_000_000_000_000 + number * 800, "node1", interface, "in", bytes(FRAME), FRAME)


def _peak() -> int:
    """Bytes that this process had at most (VmHWM: ru_maxrss would tell that of whoever started it as well)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def _main(size: int, path: Path) -> None:
    before = _peak()
    started = time.perf_counter()
    frames = write_pcapng(path, _frames(size))
    cost = {"seconds": time.perf_counter() - started, "grew": _peak() - before}
    print(json.dumps({**cost, "size": path.stat().st_size, "frames": frames}))


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]) / NAME)
