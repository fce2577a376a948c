"""Files are there whole or not at all, and what prevents them is said in words."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hoplab.hops.evidence import Frame
from hoplab.report.artifacts import ArtifactError, artifact, write_artifact
from hoplab.report.pcapng import write_pcapng


def write_and_break_off(path: Path) -> None:
    with artifact(path) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt


def test_a_file_is_written_with_the_folders_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "captures" / "today" / "run.txt"
    write_artifact(path, b"story")
    assert path.read_bytes() == b"story"
    assert list(path.parent.iterdir()) == [path]


def test_an_older_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    write_artifact(path, b"old")
    with artifact(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_in_the_middle_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    write_artifact(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        write_and_break_off(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from hoplab.report.artifacts import artifact\n"
        "with artifact(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run.txt")], check=False, cwd=Path.cwd())
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk() -> None:
    """/dev/full answers as a full disk does."""
    with open("/dev/full", "wb", buffering=0) as disk, pytest.raises(OSError, match="No space left") as caught:
        disk.write(b"x")
    message = str(ArtifactError(Path("captures/run.pcapng"), caught.value))
    assert message.startswith(
        "captures/run.pcapng was not written: No space left on device (the disk is full: make room"
    )


def test_no_room_for_the_whole_file(tmp_path: Path) -> None:
    """A limit on the size of files fails where a full disk would: in the middle, or at the very last bytes."""
    path = tmp_path / "run.pcapng"
    frames = [Frame(n, n, "node1", "eth0", "in", bytes(1400), 1400) for n in range(1, 100)]
    old_limit, old_handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room in (0, 50_000, 140_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, old_limit[1]))
            with pytest.raises(ArtifactError, match=r"run\.pcapng was not written: File too large"):
                write_pcapng(path, frames)
            assert list(tmp_path.iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "captures").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"captures/run\.txt was not written: (Not a directory|File exists)"):
        write_artifact(tmp_path / "captures" / "run.txt", b"x")


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run.txt").mkdir()
    with pytest.raises(ArtifactError, match="there is a folder of this name"):
        write_artifact(tmp_path / "run.txt", b"x")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write everywhere: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with ordinary_user(), pytest.raises(ArtifactError, match="this user may not write there"):
        write_artifact(tmp_path / "run.txt", b"x")


def test_a_read_only_file_system() -> None:
    with pytest.raises(ArtifactError) as caught:
        write_artifact(Path("/proc/hoplab/run.txt"), b"x")
    assert str(caught.value).startswith("/proc/hoplab/run.txt was not written: ")
    assert caught.value.exit_code == 1


def test_a_file_system_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    path = tmp_path / "run.txt"
    write_artifact(path, b"story")
    assert path.read_bytes() == b"story"
    with pytest.raises(KeyboardInterrupt):
        write_and_break_off(path)
    assert path.read_bytes() == b"story"
    assert list(tmp_path.iterdir()) == [path]
