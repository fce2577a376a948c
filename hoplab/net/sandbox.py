"""The lab's own namespaces: nothing that happens inside can touch the host, and nothing outlives the lab.

A lab runs as process 1 of a new PID namespace, with mount, network, UTS and IPC
namespaces of its own, and a user namespace when the caller is not root (there the
caller's uid is mapped to 0, see user_namespaces(7)).  When process 1 dies, by any
signal, the kernel kills every process of the PID namespace; with the last of them
go the network namespaces, their interfaces and rules, and the mounts.  The chain
caller -> keeper -> process 1 is tied by PR_SET_PDEATHSIG, so killing any of the
three ends all of it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from hoplab.net import kernel
from hoplab.net.forking import ENDINGS, end_by_default, fork

RUNTIME = "/run/hoplab"
"""Private to the lab: lives on the sandbox's own /run."""

HOST_ETC = f"{RUNTIME}/host/etc"
"""The host's /etc, read-only, for overlays of nodes and pods."""

HOST_VAR_LIB = f"{RUNTIME}/host/var-lib"

GRACE_S = 3
"""How long process 1 may take to end in order (write its captures) once a signal asked it to."""


class SandboxRefused(RuntimeError):
    """The kernel or its configuration forbids a namespace; str() says which, why, and how to go on."""


def run(main: Callable[[], int]) -> int:
    """Run `main` as process 1 of a fresh sandbox and return its exit code (128+N when a signal N ended it).

    The calling process stays as it is, outside.  `main` runs in a forked child, so
    whatever was imported already is there.  Raises SandboxRefused when this machine
    does not let the caller make the namespaces.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    refusal_read, refusal_write = os.pipe()
    keeper = fork(_end_at_once)
    if keeper == 0:
        os.close(refusal_read)
        _keep(main, refusal_write)
    os.close(refusal_write)
    foreground = _is_foreground()
    status = _babysit(keeper)
    if foreground:
        _take_foreground_back()
    with os.fdopen(refusal_read) as pipe:
        refusal = pipe.read()
    if refusal:
        raise SandboxRefused(refusal)
    return _exit_code(status)


def _is_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _take_foreground_back() -> None:
    """The lab's prompt may have made itself the terminal's foreground group and be gone."""
    if _is_foreground():
        return
    # Whoever changes the foreground from the background is stopped by SIGTTOU unless it ignores that.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        # The terminal has gone meanwhile.
        return
    finally:
        signal.signal(signal.SIGTTOU, before)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _babysit(child: int) -> int:
    """Wait for the child; pass on every request to end, and insist after GRACE_S seconds."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return
        # A terminal's Ctrl-C reaches every process of the group, so a second one is no insisting: the alarm does that.
        signal.alarm(GRACE_S)

    def insist(_number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            return

    # What the caller ignores (SIGHUP under nohup) is not asked of the lab either.
    passed = [number for number in ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in passed}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, insist)
    try:
        _, status = os.waitpid(child, 0)
        return status
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep(main: Callable[[], int], refusal: int) -> NoReturn:
    """The keeper: makes the namespaces, forks process 1 into them, and waits for it."""
    kernel.die_with_parent(signal.SIGKILL)
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid != 0:
            kernel.unshare(kernel.CLONE_NEWUSER)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {uid} 1")
            _write("/proc/self/gid_map", f"0 {gid} 1")
        kernel.unshare(
            kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
        )
    except OSError as error:
        _refuse(refusal, uid, error)
    alive_read, alive_write = os.pipe()
    first = fork(lambda: _process_one(main, refusal, alive_read, alive_write))
    os.close(alive_read)
    os.close(refusal)
    status = _babysit(first)
    os._exit(_exit_code(status))


def _process_one(main: Callable[[], int], refusal: int, keeper_alive: int, kept_alive: int) -> NoReturn:
    """Be process 1.  Called with ENDINGS held back: what they raise must not get past here, into the caller's code."""
    kernel.die_with_parent(signal.SIGKILL)
    os.close(kept_alive)
    # The keeper may have died before prctl: then its end of the pipe is closed already.
    if select.select([keeper_alive], [], [], 0)[0]:
        os._exit(1)
    _end_on_signals()
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        try:
            _private_mounts()
        except OSError as error:
            _refuse(refusal, os.getuid(), error)
        os.close(refusal)
        code = main()
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        # Whatever main did not handle must still be told before this process, unlike any other, vanishes silently.
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 1
        os._exit(code)


def _end_at_once() -> None:
    """Until the keeper minds its child, a request to end ends it; what its caller ignores stays ignored."""
    end_by_default(*(number for number in ENDINGS if signal.getsignal(number) is not signal.SIG_IGN))


def _end_on_signals() -> None:
    """Process 1 gets only signals that it handles: have SIGINT raise KeyboardInterrupt once, the others SystemExit."""
    seen = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            raise KeyboardInterrupt

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            raise SystemExit(128 + number)

    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt if number == signal.SIGINT else end)


def _private_mounts() -> None:
    """Give the lab its own /run, /etc, /var/lib, /var/log, /proc and /sys; the host's stay untouched below.

    /proc/sys is read-only but for /proc/sys/net, whose entries belong to the network
    namespace of whoever opens them; the rest would be the host's when the caller is root.
    """
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for directory in ("netns", "lock", "hoplab", "hoplab/host", "hoplab/host/etc", "hoplab/host/var-lib"):
        os.makedirs(f"/run/{directory}", mode=0o755, exist_ok=True)
    kernel.mount("/etc", HOST_ETC, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("/var/lib", HOST_VAR_LIB, "", kernel.MS_BIND | kernel.MS_REC)
    private_copy(HOST_ETC, "/etc", f"{RUNTIME}/etc")
    private_copy(HOST_VAR_LIB, "/var/lib", f"{RUNTIME}/var-lib")
    kernel.mount("tmpfs", "/var/log", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("/proc/sys/net", "/proc/sys/net", "", kernel.MS_BIND)
    kernel.mount("/proc/sys", "/proc/sys", "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", "/proc/sys", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
    kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY)


def seal() -> None:
    """From here on the host's /etc and /var/lib can be seen below RUNTIME, and not changed.

    What shall be written there, the folder of captures, has to be bound to its place before.  Raises OSError.
    """
    for covered in (HOST_ETC, HOST_VAR_LIB):
        kernel.set_read_only(covered, True, recursive=True)


def private_copy(lower: str, target: str, scratch: str) -> None:
    """Mount on `target` a writable view of `lower` whose changes stay in `scratch` (overlayfs).

    `scratch` must lie on the sandbox's tmpfs.  Raises OSError.
    """
    os.makedirs(f"{scratch}/upper", exist_ok=True)
    os.makedirs(f"{scratch}/work", exist_ok=True)
    kernel.mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work")


def _refuse(pipe: int, uid: int, error: OSError) -> NoReturn:
    os.write(pipe, refusal_text(uid, str(error), _apparmor_restricts()).encode())
    os._exit(3)


def _apparmor_restricts() -> bool:
    try:
        with open("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", encoding="ascii") as knob:
            return knob.read().strip() == "1"
    except OSError:
        return False


def refusal_text(uid: int, error: str, apparmor: bool) -> str:
    """What to tell a user whose kernel refused a namespace (pure)."""
    if uid == 0:
        return (
            f"this machine does not let root make the lab's namespaces: {error}. Inside a container, start it"
            " privileged (docker run --privileged); `lab.py doctor` shows each step."
        )
    way = (
        "AppArmor restricts user namespaces here: allow them with"
        " `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or"
        if apparmor
        else "an administrator may allow user namespaces (sysctl user.max_user_namespaces,"
        " kernel.unprivileged_userns_clone), or"
    )
    return f"a lab without root needs a user namespace, and this machine refused it: {error}. {way} run it with sudo."


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
