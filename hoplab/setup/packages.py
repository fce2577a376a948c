"""The Debian packages that the lab's parts come from, and how the missing ones are installed.

The names are those of Debian 12 and 13 and of Ubuntu 24.04.  Recommended packages
are left out: Mininet recommends Open vSwitch, whose service nobody here needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

PACKAGES: tuple[tuple[str, str], ...] = (
    ("mininet", "mnexec, which runs programs inside the lab's namespaces"),
    ("containernetworking-plugins", "the CNI plugins bridge and host-local"),
    ("iptables", "kube-proxy's iptables mode"),
    ("nftables", "kube-proxy's nftables mode, the balancer, rule traces"),
    ("iproute2", "ip, bridge and ss, for the lab and for students"),
    ("conntrack", "conntrack -L, for students"),
    ("tshark", "reads the captures back, in tests"),
    ("procps", "ps and sysctl"),
    ("kmod", "modprobe, where the bridge's netfilter is a module"),
    ("curl", "a client to type with"),
    ("iputils-ping", "ping, for students"),
    ("python3-venv", "makes the .venv"),
)
"""Package name -> what it is for."""


def missing(names: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed.  Raises FileNotFoundError without dpkg-query."""
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    there = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in there]


def install(names: Sequence[str]) -> str:
    """Install packages with apt-get, by sudo when the caller is not root; what went wrong, '' when all went well."""
    prefix: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        may = sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
        if not may:
            return f"packages are missing and only root can install them: sudo apt-get install {' '.join(names)}"
        prefix = ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    # Nobody asked for the services of these packages: policy-rc.d would be a change of the host, RUNLEVEL=1 is none.
    environment.append("RUNLEVEL=1")
    for step in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *names],
    ):
        done = subprocess.run([*prefix, *environment, *step], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            return f"`{' '.join(step)}` failed:\n    {last}\n  Repair that (network? another apt running?) and call again."
    return ""
