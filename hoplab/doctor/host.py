"""What can be tried without a lab: programs, Python packages, memory, and namespaces one by one.

Each kind of namespace and mount is tried in a child process that ends at once, so
that nothing of it stays, and so that the first one that is refused can be named.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hoplab.doctor import topics
from hoplab.doctor.topics import Finding, Topic
from hoplab.net import kernel
from hoplab.setup import packages
from hoplab.setup import programs as programs_of_setup

NOBODY = 65534
ENOUGH_MEMORY_MB = 300
ROOT = Path(__file__).resolve().parents[2]

PREPARED = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC


def in_child(body: Callable[[], str]) -> str:
    """Run `body` in a child process: what it returned, or the words of the OSError that ended it."""
    heard, told = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(heard)
            signal.alarm(20)
            try:
                said = body()
            except OSError as error:
                said = str(error)
            os.write(told, said.encode())
        finally:
            os._exit(0)
    os.close(told)
    with os.fdopen(heard) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def _judge(topic: Topic, problem: str, fine: str = "") -> Finding:
    return Finding(topic, "missing", problem) if problem else Finding(topic, "ok", fine)


# Namespaces and mounts


def _enter_user_namespace(uid: int, gid: int) -> str:
    """Enter a user namespace where `uid` is root; '' when that worked.  Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    return ""


def _as_this_user() -> str:
    _enter_user_namespace(os.getuid(), os.getgid())
    # A restricted user namespace can be entered, but gives no rights in it.
    kernel.unshare(kernel.CLONE_NEWNS)
    return ""


def _as_nobody() -> str:
    """Whether a user without any rights gets a user namespace that is of use: one that lets it mount."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]
    nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **nobody)
    except OSError as error:
        return f"this root can't become an ordinary user: {error.strerror}"
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"ended with {done.returncode}"


def _prepare() -> None:
    if os.geteuid() != 0:
        _enter_user_namespace(os.getuid(), os.getgid())
    kernel.unshare(PREPARED)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)


def _namespaces() -> str:
    if os.geteuid() != 0:
        _enter_user_namespace(os.getuid(), os.getgid())
    for name, flag in (
        ("mount", kernel.CLONE_NEWNS),
        ("PID", kernel.CLONE_NEWPID),
        ("network", kernel.CLONE_NEWNET),
        ("UTS", kernel.CLONE_NEWUTS),
        ("IPC", kernel.CLONE_NEWIPC),
    ):
        try:
            kernel.unshare(flag)
        except OSError as error:
            return f"{name} namespace: {error}"
    return ""


def _overlay() -> str:
    _prepare()
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for part in ("upper", "work"):
        os.mkdir(f"/run/{part}")
    kernel.mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work")
    Path("/etc/hoplab-was-here").write_text("", encoding="ascii")
    return ""


def _proc() -> str:
    _prepare()
    # Only a process of the new PID namespace, the next child, may mount its /proc.
    return in_child(_mount_proc)


def _mount_proc() -> str:
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    return ""


def namespaces() -> Iterable[Finding]:
    """User namespaces, what AppArmor says of them, and every kind of namespace and mount that a lab makes."""
    root = os.geteuid() == 0
    refused = in_child(_as_nobody if root else _as_this_user)
    who = "an ordinary user" if root else "this user"
    yield _judge(topics.USER, f"{who} can't use one: {refused}" if refused else "", f"{who} can use them")
    knob = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if knob.exists() and knob.read_text(encoding="ascii").strip() == "1":
        yield Finding(topics.APPARMOR, "limited", "restricts the user namespaces of ordinary users")
    yield _judge(topics.NAMESPACES, in_child(_namespaces), "each can be made")
    yield _judge(topics.OVERLAY, in_child(_overlay), "mounted over /run and /etc, in a child process")
    yield _judge(topics.PROC, in_child(_proc), "mounted in a child process")


# Programs and packages


def programs() -> Iterable[Finding]:
    """Each program with its version, asked all at once."""
    wanted = [package for package in packages.PACKAGES if package.places is not packages.CNI_PLACES]
    asked = [(package, path, _ask_version(path)) for package in wanted if (path := package.found())]
    versions = {package.name: _version(path, process) for package, path, process in asked}
    for package in wanted:
        topic = topics.program(package.program, package.purpose, package.name, package.needed)
        if package.name in versions:
            yield Finding(topic, "ok", versions[package.name])
        else:
            yield Finding(topic, "missing", "no such program")


def servers() -> Iterable[Finding]:
    """Each program that only some scenarios run, with its version: installed, or unpacked by --setup."""
    asked = []
    for package in programs_of_setup.PROGRAMS:
        found = programs_of_setup.find(package.program, str(ROOT))
        asked.append((package, found, _ask_version(found.path, found.environment()) if found else None))
    for package, found, process in asked:
        topic = topics.unpacked(package.program, package.purpose, programs_of_setup.WITHOUT[package.program])
        if found is None:
            yield Finding(topic, "missing", f"no such program; {package.name} is the Debian package")
        else:
            version = _version(found.path, process)
            broken = process is None or process.returncode != 0
            yield Finding(topic, "missing" if broken else "ok", version)


def _ask_version(path: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str] | None:
    # sysctl, ip and tc know -V, curl and tshark take it as --version; mnexec has only -v.
    option = {"mnexec": ["-v"], "curl": ["--version"], "tshark": ["--version"], "ethtool": ["--version"]}
    option |= {
        "nginx": ["-v"],
        "haproxy": ["-v"],
        "dnsmasq": ["--version"],
        "unbound": ["-V"],
        "kubectl": ["version", "--client"],
        "openssl": ["version"],
    }
    arguments = option.get(os.path.basename(path), ["-V"])
    try:
        return subprocess.Popen(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    except OSError:
        return None


def _version(path: str, process: subprocess.Popen[str] | None) -> str:
    if process is None:
        return f"{path} (can't be started)"
    try:
        output, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"{path} (gives no version within 20 s)"
    found = re.search(r"\d+(\.\d+)+|\d{8}", output)
    return f"{found[0]} ({path})" if found else path


def iptables_variant() -> Finding:
    """Whether iptables writes nf_tables rules, whose traces can be read, or those of old xtables."""
    package = next(package for package in packages.PACKAGES if package.name == "iptables")
    program = package.found().removesuffix("-restore")
    if not program:
        return Finding(topics.IPTABLES, "missing", "no iptables")
    done = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    said = done.stdout.strip() or done.stderr.strip()
    return Finding(topics.IPTABLES, "ok" if "nf_tables" in said else "missing", said)


def cni_plugins() -> Finding:
    """The two plugins that the lab's own configuration uses, asked for the versions of the specification they speak."""
    found = []
    for name in ("bridge", "host-local"):
        path = next((f"{place}/{name}" for place in packages.CNI_PLACES if os.access(f"{place}/{name}", os.X_OK)), "")
        if not path:
            return Finding(topics.CNI, "missing", f"no plugin {name} in {', '.join(packages.CNI_PLACES)}")
        done = subprocess.run(
            [path],
            input='{"cniVersion": "1.0.0"}',
            env={"CNI_COMMAND": "VERSION"},
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            spoken = json.loads(done.stdout)["supportedVersions"][-1]
        except (ValueError, LookupError, TypeError):
            return Finding(topics.CNI, "missing", f"{path} does not answer VERSION: {done.stdout}{done.stderr}".strip())
        found.append(f"{path} (CNI {spoken})")
    return Finding(topics.CNI, "ok", ", ".join(found))


def python_packages() -> Finding:
    """The pinned packages of requirements.txt, as installed."""
    wrong, found = [], []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, pinned, version = line.partition("#")[0].strip().partition("==")
        if not pinned:
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {installed}")
        if installed != version:
            wrong.append(f"{name} is {installed}, not {version}")
    python = f"Python {sys.version.split()[0]}"
    state = Finding(topics.PYTHON, "ok", ", ".join((python, *found)))
    return Finding(topics.PYTHON, "missing", ", ".join((python, *wrong))) if wrong else state


def memory() -> Finding:
    """What is free for a lab, in MB."""
    with open("/proc/meminfo", encoding="ascii") as file:
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    free = sizes.get("MemAvailable", 0) // 1024
    state: topics.State = "ok" if free >= ENOUGH_MEMORY_MB else "limited"
    return Finding(topics.MEMORY, state, f"{free} MB of {sizes.get('MemTotal', 0) // 1024} MB are free")


def captures() -> Finding:
    """Whether runs can leave their files where they do by default."""
    folder = ROOT / "captures"
    if os.access(folder, os.W_OK):
        return Finding(topics.CAPTURES, "ok", str(folder))
    return Finding(topics.CAPTURES, "limited", f"{folder} is not yours to write")
