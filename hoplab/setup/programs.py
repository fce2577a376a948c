"""Programs that a lab runs as themselves (nginx, HAProxy, unbound, dnsmasq, kubectl), brought without being installed.

Debian's packages of a server start and enable it as a service of the machine, which a
lab has no right to.  So they are only fetched and unpacked into a folder of the
project, with the libraries that the machine lacks; nothing of them is registered or
started, and whoever has a program installed already runs that one.  No privilege is
needed: where the machine's own package lists do not help, lists are fetched into a
folder for the moment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob

from hoplab.setup import stamp
from hoplab.setup.packages import PLACES, Package, Say, last_lines

FOLDER = "programs"
"""Below .venv: what --setup made goes with one folder, and Vagrant keeps that one on a disk that takes links."""
NAME = "absent"
"""The file in it that notes packages which this system does not have."""
PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PROGRAMS = (
    Package("nginx", "nginx", "the Ingress controller's web server, and pods of the image nginx"),
    Package("haproxy", "haproxy", "--balancer-mode proxy"),
    Package("unbound", "unbound", "the cluster's DNS server"),
    Package("dnsmasq-base", "dnsmasq", "the DNS server outside of the cluster"),
    Package("kubernetes-client", "kubectl", "Kubernetes' own command line, for lab.py kubectl"),
)
WITHOUT: Mapping[str, str] = {
    "nginx": "everything but Ingress; pods of the image nginx are stood in for by the lab's own server",
    "haproxy": "the balancer modes nat and passthrough",
    "unbound": "everything but cluster DNS: Services have addresses and no names",
    "dnsmasq": "cluster DNS without the names of the world outside",
    "kubectl": "everything but lab.py kubectl",
}
"""Program -> what still works where it is missing."""

_INST = re.compile(r"^Inst (?P<name>\S+) (?:\[[^\]]*\] )?\((?P<version>\S+) ", re.MULTILINE)
LOADERS = frozenset({"libc6", "libc-bin"})
"""A C library can't be taken from another folder than the loader that the kernel starts programs with."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a program is, and the folders of libraries that it needs besides the system's."""

    path: str
    libraries: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """What its environment must have for the loader to find those libraries."""
        return {"LD_LIBRARY_PATH": ":".join(self.libraries)} if self.libraries else {}


def find(program: str, here: str = PROJECT) -> Found | None:
    """A program by its name: the machine's own, else the one that --setup unpacked; None when there is neither."""
    own = Package(program, program, "").found()
    if own:
        return Found(own)
    root = folder(here)
    for place in PLACES:
        path = os.path.join(root, place.lstrip("/"), program)
        if os.access(path, os.X_OK):
            return Found(path, tuple(sorted(glob(f"{root}/usr/lib/*-linux-*") + glob(f"{root}/lib/*-linux-*"))))
    return None


def folder(here: str) -> str:
    """Where the project in `here` has them unpacked."""
    return os.path.join(stamp.folder(here), FOLDER)


def missing(here: str) -> list[Package]:
    """Those that are neither installed nor unpacked."""
    return [package for package in PROGRAMS if find(package.program, here) is None]


def make(here: str, say: Say) -> None:
    """Unpack what is missing; what can't be had is told, and stops nothing: only some scenarios need it."""
    absent = [package for package in missing(here) if package.name not in _known_absent(here)]
    if not absent:
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        listed = "; ".join(f"{package.program} ({package.purpose})" for package in absent)
        say(f"going on without what only some scenarios need; install it where you want it: {listed}")
        return
    # Whatever was unpacked before goes: a folder is exchanged as a whole, so that none is ever half there.
    wanted = [package for package in PROGRAMS if not package.found()]
    for package in wanted:
        say(f"unpacking {package.name} into the project: {package.purpose}")
    problem = bring(here, [package.name for package in wanted], say)
    if problem:
        say(f"going on without {', '.join(package.program for package in missing(here))}: {problem}")


def bring(here: str, names: Sequence[str], say: Say) -> str:
    """Unpack packages into the folder of `here`, whatever the machine has; what went wrong, '' when nothing did."""
    with tempfile.TemporaryDirectory(prefix="hoplab-programs-") as scratch:
        return _bring(here, names, scratch, say)


def _bring(here: str, names: Sequence[str], scratch: str, say: Say) -> str:
    """Fetch and unpack packages with what they need; what went wrong, '' when all is there that this system has."""
    options: list[str] = []
    wanted, strangers, problem = _resolve(names, options)
    if strangers or problem or _download(wanted, options, scratch):
        # The machine's lists are missing or old: fetch today's, for this time only.
        options = _private_lists(scratch)
        problem = _run(["apt-get", *options, "-q", "update"], scratch)
        if problem:
            return problem
        wanted, strangers, problem = _resolve(names, options)
        problem = problem or _download(wanted, options, scratch)
        if problem:
            return problem
    for name in strangers:
        say(f"going on without {name}: the package lists of this system have none of that name")
    return _exchange(folder(here), sorted(glob(f"{scratch}/*.deb")), strangers)


def _resolve(names: Sequence[str], options: Sequence[str]) -> tuple[list[str], list[str], str]:
    """What to fetch (NAME=VERSION, with libraries that the machine lacks), which names are unknown, what is wrong."""
    strangers = []
    for name in names:
        asked = subprocess.run(["apt-cache", *options, "show", name], capture_output=True, text=True, check=False)
        if asked.returncode != 0 or not asked.stdout.strip():
            strangers.append(name)
    known = [name for name in names if name not in strangers]
    if not known:
        return [], strangers, ""
    # Recommended packages, and the programs of Priority important that a package may name, stay where they are.
    command = ["apt-get", *options, "-q", "--simulate", "install", "--no-install-recommends", *known]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        return [], strangers, f"`{' '.join(command)}` failed:\n{last_lines(done.stdout + done.stderr)}"
    wanted = to_fetch(done.stdout)
    loaders = sorted(each.partition("=")[0] for each in wanted if each.partition("=")[0] in LOADERS)
    if loaders:
        return [], strangers, f"they need a newer {loaders[0]} than this machine has: sudo apt-get upgrade"
    return wanted, strangers, ""


def to_fetch(simulation: str) -> list[str]:
    """NAME=VERSION of each package that `apt-get --simulate install` would install or upgrade (pure)."""
    return [f"{found['name']}={found['version']}" for found in _INST.finditer(simulation)]


def _download(wanted: Sequence[str], options: Sequence[str], scratch: str) -> str:
    return _run(["apt-get", *options, "-q", "-o", "APT::Sandbox::User=", "download", *wanted], scratch)


def _private_lists(scratch: str) -> list[str]:
    for part in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(scratch, part), exist_ok=True)
    kept = {"Dir::State::Lists": f"{scratch}/lists", "Dir::Cache": f"{scratch}/cache", "APT::Sandbox::User": ""}
    return [word for key, value in kept.items() for word in ("-o", f"{key}={value}")]


def _run(command: Sequence[str], inside: str) -> str:
    done = subprocess.run(command, cwd=inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return f"`{' '.join(command)}` failed:\n{last_lines(done.stdout + done.stderr)}"


def _exchange(target: str, archives: Sequence[str], absent: Sequence[str]) -> str:
    """Put a folder with these archives' files, and the note of what is absent, in the place of an earlier one."""
    fresh = f"{target}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    for archive in archives:
        problem = _run(["dpkg-deb", "-x", archive, fresh], fresh)
        if problem:
            return problem
    with open(os.path.join(fresh, NAME), "w", encoding="utf-8") as file:
        file.write("".join(f"{name}\n" for name in absent))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)
    return ""


def _known_absent(here: str) -> set[str]:
    """Packages that this system was found not to have, so that not every --setup asks for them anew."""
    try:
        with open(os.path.join(folder(here), NAME), encoding="utf-8") as file:
            return set(file.read().split())
    except OSError:
        return set()
