"""The programs that the lab's parts are, and the Debian packages that bring them.

The names are those of Debian 12 and 13 and of Ubuntu 24.04.  A package is missing
when its program is: who built iptables by hand, or has no Debian, is not told
otherwise.  Recommended packages are left out, so that none brings a service (Mininet
recommends Open vSwitch, which nobody here needs).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
CNI_PLACES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, the program it brings, what that is for, and whether the main job needs it."""

    name: str
    program: str
    purpose: str
    needed: bool = False
    places: tuple[str, ...] = PLACES

    def found(self) -> str:
        """Where its program is, '' when it is nowhere."""
        own = [] if self.places is CNI_PLACES else os.environ.get("PATH", "").split(os.pathsep)
        paths = (os.path.join(place, self.program) for place in (*own, *self.places) if place)
        return next((path for path in paths if os.access(path, os.X_OK)), "")


PACKAGES = (
    Package("mininet", "mnexec", "mnexec, which runs programs inside the lab's namespaces", True),
    Package("containernetworking-plugins", "host-local", "the CNI plugins that give pods a network", True, CNI_PLACES),
    Package("iptables", "iptables-restore", "kube-proxy's iptables mode", True),
    Package("nftables", "nft", "the balancer, rule traces, kube-proxy's nftables mode", True),
    Package("iproute2", "ip", "links and addresses: the lab's and what students look at", True),
    Package("procps", "sysctl", "sysctl and ps", True),
    Package("conntrack", "conntrack", "connection tracking, as students look at it"),
    Package("ethtool", "ethtool", "offload settings, as students look at them"),
    Package("tshark", "tshark", "reads captures back, in tests and in terminals"),
    Package("curl", "curl", "a client to type with"),
    Package("iputils-ping", "ping", "ping, to type with"),
    Package("openssl", "openssl", "makes certificates, for Ingresses with TLS"),
    Package("bridge-utils", "brctl", "Linux bridges of stock Mininet, for `mn --custom topologies/cloud.py`"),
)


def missing(packages: Iterable[Package] = PACKAGES) -> list[Package]:
    """Those whose program is nowhere."""
    return [package for package in packages if not package.found()]


def install_command(names: Sequence[str]) -> str:
    """What a person types to get packages."""
    return f"sudo apt-get install --no-install-recommends {' '.join(names)}"


def make(say: Say) -> str:
    """Install what is missing; the problem that remains, '' when nothing needed is missing."""
    absent = missing()
    if not absent:
        return ""
    needed = [package for package in absent if package.needed]
    problem = install([package.name for package in absent], {p.name: p.purpose for p in absent}, say)
    if problem and not needed:
        # What only helps must not keep an ordinary user from the lab.
        say(f"going on without {', '.join(package.name for package in absent)}: {problem}")
        return ""
    return problem


def make_venv_module(interpreter: str, has_ensurepip: bool, say: Say) -> str:
    """Debian's Pythons come without ensurepip, which venvs are made with: install it when it is missing."""
    if has_ensurepip or not interpreter.startswith("/usr/bin/"):
        return ""
    name = f"{os.path.basename(os.path.realpath(interpreter))}-venv"
    return install([name], {name: "makes the .venv"}, say)


def install(names: Sequence[str], purposes: dict[str, str], say: Say) -> str:
    """Install packages with apt-get, by sudo when the caller is not root; what went wrong, '' when all went well."""
    if not shutil.which("apt-get"):
        return (
            "this is no Debian or Ubuntu, and --setup knows no other system. Install what brings these, and call"
            f" again: {'; '.join(f'{name} ({purposes[name]})' for name in names)}"
        )
    prefix: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if not sudo or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
            return f"packages are missing, and installing them takes root. Type: {install_command(names)}"
        prefix = [sudo, "-n"]
    for name in names:
        say(f"installing {name}: {purposes[name]}")
    # Configuration files that a user changed stay as they are; another apt that is just running is waited for.
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options]
    for step in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *names]):
        done = subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            words = f"`{' '.join(step)}` failed:\n{last_lines(done.stdout + done.stderr)}\n"
            return f"{words}  Repair that (network? another apt running?) and call again"
    return ""


def run(command: Sequence[str]) -> str:
    """Run a program of the set-up to its end; what went wrong and what to do, '' when all went well."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"`{' '.join(command)}` can't be run: {error}"
    if done.returncode == 0:
        return ""
    last = last_lines(done.stdout + done.stderr)
    return f"`{' '.join(command)}` failed:\n{last}\n  Repair that (network? disk space?) and call again"


def last_lines(output: str, count: int = 8) -> str:
    """The end of a program's output, indented: where it says what failed."""
    return "\n".join(f"    {line}" for line in output.strip().splitlines()[-count:])
