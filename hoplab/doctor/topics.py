"""What is examined: why each thing matters, how to get it, what still works without it (pure).

A finding is a topic with a state.  The main job (`lab.py scenario external-lb`) can
run when every topic that it needs is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "limited", "missing", "untried"]
"""ok: tried and works.  limited: works in part.  missing: tried and fails.  untried: something before it failed."""

NOTHING = "nothing: no lab can run"


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that a lab uses."""

    name: str
    why: str
    how: str
    without: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one topic; `found` is the evidence: a version, a path, the kernel's words."""

    topic: Topic
    state: State
    found: str = ""

    @property
    def hinders(self) -> bool:
        """Whether the main job can't run for it."""
        return self.topic.needed and self.state in ("missing", "untried")


def ready(findings: Sequence[Finding]) -> bool:
    """Whether the main job can run."""
    return bool(findings) and not any(finding.hinders for finding in findings)


def to_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The examination as plain data for `lab.py doctor --json`."""
    return {
        "version": 1,
        "ready": ready(findings),
        "findings": [{**asdict(f.topic), "state": f.state, "found": f.found} for f in findings],
    }


SETUP = "python3 lab.py --setup (as root or with sudo)"
KERNEL = "a kernel with it, as Debian 12, Debian 13 and Ubuntu 24.04 have (on small cloud kernels: the full one)"

PYTHON = Topic("Python packages", "the lab's own libraries, in the versions it was tested with", SETUP, NOTHING)
USER = Topic(
    "user namespaces",
    "an ordinary user's lab gets its rights from one; root needs none",
    "run as root or with sudo; or an administrator allows them: sudo sysctl user.max_user_namespaces=15000"
    " kernel.unprivileged_userns_clone=1 (the latter where it exists)",
    "everything, as root",
    needed=False,
)
APPARMOR = Topic(
    "AppArmor",
    "Ubuntu 24.04 takes the rights away that an ordinary user has in a user namespace",
    "run with sudo; or sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (and the same line in a file of"
    " /etc/sysctl.d to keep it)",
    "everything, as root",
    needed=False,
)
NAMESPACES = Topic(
    "mount, PID, network, UTS and IPC namespaces",
    "a lab is one process tree in namespaces of its own: the host is never touched, and nothing outlives it",
    "root, or user namespaces; inside a container: docker run --privileged",
    NOTHING,
)
PROC = Topic(
    "a /proc and a /sys of its own",
    "the lab's processes and settings are seen there",
    "inside a container: docker run --privileged (a masked /proc can't be mounted a second time)",
    NOTHING,
)
OVERLAY = Topic(
    "tmpfs and overlay mounts",
    "each node and pod gets an /etc and a /run of its own over the host's",
    "Linux 5.11 or newer, or root; inside a container: docker run --privileged",
    NOTHING,
)
SANDBOX = Topic("the sandbox", "all of the above together, as a lab enters it", "the topics above say what", NOTHING)
HOLDERS = Topic(
    "machines", "each node is a process that holds namespaces", "the topics above say what it needs", NOTHING
)
VETH = Topic("veth pairs", "every cable of the lab", KERNEL, NOTHING)
BRIDGE = Topic("bridges", "the switches, and the bridge of each node's pods", KERNEL, NOTHING)
VXLAN = Topic("VXLAN", "--fabric vxlan carries pods' packets in tunnels", KERNEL, "--fabric routes", needed=False)
BRIDGE_NETFILTER = Topic(
    "br_netfilter",
    "packets between pods of one bridge meet iptables too, so a pod reaches a Service whose pod is its neighbour",
    "sudo modprobe br_netfilter (--setup does it, and keeps it off for the host's own bridges)",
    "Services whose chosen pod is on another bridge than the sender",
)
IPTABLES = Topic(
    "iptables over nf_tables",
    "kube-proxy's rules in iptables mode; those of the old iptables-legacy can't be traced",
    "sudo apt-get install iptables; where iptables -V says legacy:"
    " sudo update-alternatives --set iptables /usr/sbin/iptables-nft",
    "--proxy-mode nftables",
)
MATCHES = Topic(
    "iptables matches and targets",
    "kube-proxy's rules use statistic, addrtype, mark, conntrack, recent, comment, DNAT and MASQUERADE",
    KERNEL,
    "--proxy-mode nftables",
)
NFT = Topic(
    "nftables with maps, numgen and jhash",
    "the balancer's hash and round robin, rule traces, kube-proxy's nftables mode",
    "sudo apt-get install nftables, version 1.0.6 or newer; " + KERNEL,
    NOTHING,
)
FRAMES = Topic("packet sockets", "every frame of a run is seen by one", "root or a user namespace", NOTHING)
TRACES = Topic("rule traces", "which rules a packet met is seen, never assumed", KERNEL + " (nft_trace)", NOTHING)
CONNTRACK = Topic(
    "conntrack events",
    "what connection tracking remembers of a rewrite is seen, never assumed",
    KERNEL + " (nf_conntrack_netlink, CONFIG_NF_CONNTRACK_EVENTS)",
    NOTHING,
)
CNI = Topic(
    "CNI plugins",
    "bridge and host-local give pods their interfaces and addresses",
    "sudo apt-get install containernetworking-plugins",
    NOTHING,
)
IPV6 = Topic("IPv6", "dual-stack Services", "sudo sysctl net.ipv6.conf.all.disable_ipv6=0", "IPv4", needed=False)
SCTP = Topic(
    "SCTP",
    "pods that serve SCTP",
    "sudo modprobe sctp",
    "TCP, UDP and ICMP; the rules of SCTP Services, which need no socket",
    needed=False,
)
NETEM = Topic(
    "netem",
    "delay and loss on a link",
    KERNEL + " (on Debian and Ubuntu it may be in the package linux-modules-extra)",
    "everything but artificial delay and loss",
    needed=False,
)
DROPS = Topic(
    "the kernel's drop reasons",
    "beside the reasons of failed flows stands the kernel's own word for what it dropped",
    "run as root or with sudo; Linux 5.17 or newer with tracefs and the tracepoint skb:kfree_skb",
    "every reason but that a pod's own rules took a packet, which is then told as open",
    needed=False,
)
MEMORY = Topic(
    "memory",
    "a lab takes about 150 MB, and half a megabyte for each pod beyond",
    "end other programs, or give the virtual machine more",
    "small labs",
    needed=False,
)
CAPTURES = Topic(
    "the folder captures/",
    "runs leave their pcapng and story there",
    "--captures FOLDER puts them elsewhere; sudo chown gives the folder to you",
    "the verdict, without its files",
    needed=False,
)


def program(name: str, purpose: str, package: str, needed: bool) -> Topic:
    """The topic of one installed program."""
    without = NOTHING if needed else "the verdict; this program only helps people and tests"
    return Topic(name, purpose, f"sudo apt-get install {package}", without, needed)


def unpacked(name: str, purpose: str, without: str) -> Topic:
    """The topic of a program that --setup unpacks into the project, and that only some scenarios need."""
    return Topic(name, purpose, "python3 lab.py --setup (unpacks it, nothing is installed)", without, False)
