"""What a container sees as its file system: the machine's own files, read-only, with volumes in their places.

The lab has no images, so a program in a pod runs on the files of the machine that the
lab is on.  It must not change them: everything that is not the lab's own becomes
read-only in the pod's mount namespace, and /tmp is the pod's.  A volume is a small tmpfs
at its path.  Where the machine has no such folder, an overlay provides one, or, directly
below /, a new root made of binds of what the old one holds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from hoplab.net import kernel, sandbox
from hoplab.net.files import write_over

WRITABLE = ("/etc", "/run", "/var/lib", "/var/log", "/proc", "/tmp", "/dev/shm")
"""Mounts that are the pod's or the lab's own, where the pod has them."""


def furnish(scratch: str, volumes: Mapping[str, Mapping[str, str]], shown: Sequence[str] = ()) -> None:
    """Make the calling process' mount namespace that of a container.

    `volumes`: mount path -> files in it (relative name -> text); a path that ends in the one name '' is a file of its
    own (subPath).  `scratch` is a folder on the lab's tmpfs, for overlays.  `shown` are folders of the machine that
    stay in sight wherever they lie, also below a /tmp that the pod has its own of.  Raises OSError.
    """
    kept = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in shown if os.path.isdir(path)]
    paths = sorted(volumes, key=lambda path: (path.count("/"), path))
    if any(not os.path.isdir("/" + path.split("/")[1]) for path in paths):
        _new_root(f"{scratch}/root")
    # /run is the node's, where two pods' process ids would lie in one file; what lies below stays within reach by this.
    os.makedirs(scratch, exist_ok=True)
    scratch = f"/proc/self/fd/{os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"
    for own, mode in (("/tmp", "1777"), ("/run", "755")):
        kernel.mount("tmpfs", own, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode}")
    os.mkdir("/run/lock", 0o1777)
    for path, folder in kept:
        if not os.path.isdir(path):
            os.makedirs(path)
            kernel.mount(f"/proc/self/fd/{folder}", path, "", kernel.MS_BIND)
        os.close(folder)
    for number, path in enumerate(paths):
        files = volumes[path]
        _make_place(path, _is_file(files), f"{scratch}/overlay-{number}")
        if _is_file(files):
            _bind_file(path, files[""], f"{scratch}/files{path}")
            continue
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
        for name, text in files.items():
            write_over(f"{path}/{name}", text)
    kernel.set_read_only("/", True, recursive=True)
    for path in (*WRITABLE, *(path for path in paths if not _is_file(volumes[path]))):
        try:
            kernel.set_read_only(path, False)
        except OSError as error:
            # No mount of its own, or not ours to change.  (os.path.ismount sees no bind of the same file system.)
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.EPERM):
                raise


def _is_file(files: Mapping[str, str]) -> bool:
    return "" in files


def _bind_file(path: str, text: str, scratch: str) -> None:
    write_over(scratch, text)
    os.chmod(scratch, 0o755 if text.startswith("#!") else 0o644)
    kernel.mount(scratch, path, "", kernel.MS_BIND)


def _make_place(path: str, is_file: bool, scratch: str) -> None:
    """Have a folder or file to mount on where the machine may have none, without making it on the machine."""
    if os.path.exists(path):
        return
    above = os.path.dirname(path)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if above != "/" and not _is_own(above):
        sandbox.private_copy(above, above, scratch)
    os.makedirs(os.path.dirname(path) if is_file else path, exist_ok=True)
    if is_file:
        open(path, "w", encoding="ascii").close()


def _is_own(path: str) -> bool:
    """Whether what is written there stays in the pod."""
    return any(path == own or path.startswith(f"{own}/") for own in WRITABLE)


def _new_root(new: str) -> None:
    os.makedirs(new, exist_ok=True)
    kernel.mount("tmpfs", new, "tmpfs", kernel.MS_NOSUID, "mode=755")
    # Else the bind of /run below would hold the new root once more.
    kernel.mount("none", new, "", kernel.MS_UNBINDABLE)
    for entry in os.scandir("/"):
        target = f"{new}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_dir():
            os.mkdir(target)
            kernel.mount(entry.path, target, "", kernel.MS_BIND | kernel.MS_REC)
    os.chdir(new)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
