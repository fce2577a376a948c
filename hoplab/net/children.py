"""What a child of the zygote becomes: the holder of a node's or pod's namespaces, a server, a program, a minder.

Each is told what by one request, and says over a pipe that it is ready, or why it can't
be.  A holder keeps its namespaces alive and does nothing else, like the pause container
of a real pod.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from hoplab.net import kernel, podroot, podserver, sandbox, sessions
from hoplab.net.files import write_over


def become(request: Mapping[str, Any], fds: Sequence[int], told: int) -> NoReturn:
    """Be what the request says, with these descriptors; `told` is the pipe to speak over."""
    kernel.die_with_parent(signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    makers: Mapping[str, Callable[[Mapping[str, Any]], None]] = {"node": _become_node, "pod": _become_pod}
    try:
        if request["what"] == "session":
            _enter(request["inside_pid"], ("net", "mnt", "uts"))
            _rename(f"exec:{request['name']}")
            sessions.mind(request, fds, told)
        if request["what"] == "server":
            _enter(request["inside_pid"], ("net", "mnt", "uts"))
            os.dup2(fds[0], 1)
            os.dup2(fds[0], 2)
            podserver.serve(podserver.ServerConfig.from_mapping(request["config"]), told)
        if request["what"] == "program":
            _become_program(request, fds, told)
        makers[request["what"]](request)
    except (OSError, ValueError, KeyError, TypeError) as error:
        os.write(told, f"{error}\n".encode())
        os._exit(1)
    _hold(request["name"], told)


def _hold(name: str, told: int) -> NoReturn:
    """Be the pause process: keep the namespaces, give the terminal back, wait for the end."""
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    _rename(f"hold:{name}")
    os.write(told, b"ready\n")
    # Whatever else was inherited (the caller's pipes, files) must not be held open for as long as the lab lives.
    os.closerange(3, 1 << 16)
    while True:
        signal.pause()


def _rename(title: str) -> None:
    try:
        with open("/proc/self/comm", "w", encoding="utf-8", errors="replace") as comm:
            comm.write(title[:15])
    except OSError:
        return


def _enter(pid: int, kinds: Sequence[str]) -> None:
    flags = {"net": kernel.CLONE_NEWNET, "mnt": kernel.CLONE_NEWNS, "uts": kernel.CLONE_NEWUTS}
    opened = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), flags[kind]) for kind in kinds]
    for fd, flag in opened:
        kernel.setns(fd, flag)
        os.close(fd)


def _become_node(request: Mapping[str, Any]) -> None:
    name = request["name"]
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
    socket.sethostname(name)
    home = f"{sandbox.RUNTIME}/nodes/{name}"
    for part in ("run", "cni", "log"):
        os.makedirs(f"{home}/{part}", exist_ok=True)
    sandbox.private_copy(sandbox.HOST_ETC, "/etc", f"{home}/etc")
    os.makedirs("/var/lib/cni", exist_ok=True)
    kernel.mount(f"{home}/cni", "/var/lib/cni", "", kernel.MS_BIND)
    kernel.mount(f"{home}/log", "/var/log", "", kernel.MS_BIND)
    # The node's own /run hides the sandbox's, but the way to the files of nodes and pods must stay.
    os.makedirs(f"{home}/run/hoplab", exist_ok=True)
    kernel.mount(sandbox.RUNTIME, f"{home}/run/hoplab", "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount(f"{home}/run", "/run", "", kernel.MS_BIND | kernel.MS_REC)
    for part in ("netns", "lock"):
        os.makedirs(f"/run/{part}", exist_ok=True)
    # Device names in /sys are those of the network namespace that mounted it.
    kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    write_over("/etc/hostname", f"{name}\n")
    _loopback_up()


def _become_pod(request: Mapping[str, Any]) -> None:
    _enter(request["node_pid"], ("mnt",))
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS)
    socket.sethostname(request["hostname"])
    pin = f"/run/netns/{request['netns']}"
    os.close(os.open(pin, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    kernel.mount("/proc/self/ns/net", pin, "", kernel.MS_BIND)
    kernel.unshare(kernel.CLONE_NEWNS)
    scratch = f"{sandbox.RUNTIME}/pods/{request['netns']}"
    sandbox.private_copy(sandbox.HOST_ETC, "/etc", scratch)
    write_over("/etc/hostname", f"{request['hostname']}\n")
    for path, text in request["files"].items():
        write_over(path, text)
    for key, value in request["sysctls"].items():
        with open(f"/proc/sys/{key.replace('.', '/')}", "w", encoding="ascii") as knob:
            knob.write(str(value))
    kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    if request["volumes"] is not None:
        podroot.furnish(scratch, request["volumes"], request["shown"])
    _loopback_up()


def _become_program(request: Mapping[str, Any], fds: Sequence[int], told: int) -> NoReturn:
    """Execute a program; the pipe `told` closes when that works, and stays to tell why when it does not."""
    _enter(request["inside_pid"], ("net", "mnt", "uts"))
    for path, text in request["files"].items():
        write_over(path, text)
    os.setsid()
    log, *given = fds
    if request["terminal"]:
        fcntl.ioctl(log, termios.TIOCSCTTY, 0)
    read = given[0] if given else os.open("/dev/null", os.O_RDONLY)
    for fd, place in ((read, 0), (log, 1), (log, 2)):
        os.dup2(fd, place)
    # Its descriptors are these three; all others end with the exec.
    os.set_inheritable(told, False)
    os.closerange(3, told)
    os.closerange(told + 1, 1 << 16)
    argv = request["argv"]
    os.chdir(request["cwd"])
    # What this Python and the zygote ignore, a program must not inherit as ignored.
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, request["env"])
    except FileNotFoundError as error:
        raise OSError(f"`{' '.join(argv)}` can't be run: no such program") from error


def _loopback_up() -> None:
    """Set lo up by SIOCSIFFLAGS: the zygote carries no netlink library."""
    siocsifflags, iff_up_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sH14x", b"lo", iff_up_running))
