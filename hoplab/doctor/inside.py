"""What only a lab can try: builds a network of two machines in the sandbox, and uses it.

Two machines, a cable, a datagram from one to the other past rules of both kinds; the
observer that runs use must see the frame, the rules that it met, and the entry of
connection tracking.  What failed is told in the kernel's words; what needed it is
left untried.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from hoplab.doctor import topics
from hoplab.doctor.topics import Finding, Topic
from hoplab.net.loop import DeadlinePassed
from hoplab.net.namespaces import CommandFailed, Namespace
from hoplab.net.netlink import Netlink, NetlinkFailed, write_sysctls
from hoplab.net.zygote import NodeSpec, SpawnFailed, Zygote
from hoplab.watch.drops import Drops
from hoplab.watch.observer import Observer
from hoplab.watch.watched import Target

HERE, THERE = "192.0.2.1", "192.0.2.2"
PORT = 7

_RULES = (
    "-A PREROUTING -m comment --comment tried -m addrtype --dst-type LOCAL -j KUBE-TRIED",
    "-A KUBE-TRIED -p tcp -m tcp --dport 80 -m statistic --mode random --probability 0.5 -j DNAT"
    " --to-destination 192.0.2.9:80",
    "-A KUBE-TRIED -m recent --name tried --rcheck --seconds 9 --reap -j RETURN",
    "-A KUBE-TRIED -m recent --name tried --set",
    "-A KUBE-TRIED -m conntrack --ctstate INVALID -j RETURN",
    "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
    "-A KUBE-TRIED -j MARK --or-mark 0x4000",
)
NFT_TABLE = """
table ip tried {
    chain pick {
        type nat hook prerouting priority -100
        tcp dport 80 dnat to numgen inc mod 2 map { 0 : 192.0.2.9, 1 : 192.0.2.10 }
        tcp dport 81 dnat to jhash ip saddr . tcp sport mod 2 map { 0 : 192.0.2.9, 1 : 192.0.2.10 }
        fib daddr type local tcp dport vmap { 82 : accept }
    }
    chain hide {
        type nat hook postrouting priority 100
        meta mark & 0x4000 != 0 masquerade fully-random
    }
}
"""

_REFUSALS = (OSError, CommandFailed, NetlinkFailed, SpawnFailed, DeadlinePassed)


@dataclass(slots=True)
class MiniLab:
    """Two machines and what was found with them."""

    findings: list[Finding] = field(default_factory=list)
    zygote: Zygote = field(default_factory=Zygote)
    here: Namespace = field(init=False)
    there: Namespace = field(init=False)
    net_here: Netlink = field(init=False)
    net_there: Netlink = field(init=False)

    def examine(self) -> list[Finding]:
        """Try everything, in an order in which each thing has what it needs."""
        machines = self._try(topics.HOLDERS, self._machines)
        cable = self._try(topics.VETH, self._cable, after=machines)
        self._try(topics.BRIDGE, self._bridge, after=cable)
        self._try(topics.VXLAN, self._vxlan, after=cable)
        self._try(topics.BRIDGE_NETFILTER, self._bridge_netfilter, after=machines)
        self._try(topics.MATCHES, self._matches, after=machines)
        nft = self._try(topics.NFT, self._nft, after=machines)
        self._observe(after=cable and nft)
        self._try(topics.IPV6, self._ipv6, after=cable)
        self._try(topics.SCTP, self._sctp, after=machines)
        self._try(topics.NETEM, self._netem, after=cable)
        self._try(topics.DROPS, self._drops, after=cable)
        return self.findings

    def _try(self, topic: Topic, probe: Callable[[], str], after: bool = True) -> bool:
        if not after:
            self.findings.append(Finding(topic, "untried", "something that it needs is missing"))
            return False
        try:
            self.findings.append(Finding(topic, "ok", probe()))
        except _REFUSALS as error:
            self.findings.append(Finding(topic, "missing", _words(error)))
            return False
        return True

    def _machines(self) -> str:
        here, there = self.zygote.nodes([NodeSpec("here"), NodeSpec("there")])
        self.here, self.there = Namespace("here", here), Namespace("there", there)
        self.net_here, self.net_there = Netlink(self.here), Netlink(self.there)
        return "two were made"

    def _cable(self) -> str:
        self.net_here.veth("eth0", "02:00:00:00:00:01", "eth0", "02:00:00:00:00:02", peer=self.there, index=100)
        for netlink, address in ((self.net_here, HERE), (self.net_there, THERE)):
            netlink.address("eth0", f"{address}/24")
            netlink.up("eth0")
        return "two machines are connected"

    def _bridge(self) -> str:
        self.net_here.veth("port", "02:00:00:00:00:03", "far", "02:00:00:00:00:04", peer=self.there, index=101)
        self.net_here.bridge("br0")
        self.net_here.enslave("port", "br0")
        return "made, with a port"

    def _vxlan(self) -> str:
        self.net_here.vxlan("vx0", 1, HERE, "eth0")
        return "made"

    def _bridge_netfilter(self) -> str:
        write_sysctls(self.here, {"net.bridge.bridge-nf-call-iptables": 1})
        return "bridged packets meet iptables"

    def _matches(self) -> str:
        refused = []
        for rule in _RULES:
            text = f"*nat\n:KUBE-TRIED - [0:0]\n{rule}\nCOMMIT\n"
            done = self.here.run(["iptables-restore", "--noflush"], text, check=False)
            if done.returncode != 0:
                words = " ".join((done.stderr + done.stdout).split())
                refused.append(f"{rule!r} ({words})")
        if refused:
            raise OSError(f"iptables-restore refuses {'; '.join(refused)}")
        return f"{len(_RULES)} rules of kube-proxy's kind were loaded"

    def _nft(self) -> str:
        self.there.run(["nft", "-f", "-"], NFT_TABLE)
        return "a balancer's table was loaded"

    def _observe(self, after: bool) -> None:
        wanted = (topics.FRAMES, topics.TRACES, topics.CONNTRACK)
        if not after:
            self.findings += [Finding(topic, "untried", "something that it needs is missing") for topic in wanted]
            return
        try:
            counts = self._datagram()
        except _REFUSALS as error:
            self.findings += [Finding(topic, "missing", _words(error)) for topic in wanted]
            return
        for topic, count in zip(wanted, counts, strict=True):
            state: topics.State = "ok" if count else "missing"
            self.findings.append(Finding(topic, state, f"seen of one datagram: {count or 'nothing'}"))

    def _datagram(self) -> tuple[int, int, int]:
        """Send one datagram past rules and connection tracking: frames, trace events and conntrack events seen."""
        with Observer([Target(self.here), Target(self.there, trace=True, conntrack=True)]) as observer:
            with self.there.entered():
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with self.here.entered():
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with receiver, sender:
                receiver.bind((THERE, PORT))
                sender.sendto(b"tried", (THERE, PORT))
                receiver.setblocking(False)
                arrived: list[bytes] = []
                observer.register(receiver.fileno(), lambda: arrived.append(receiver.recv(99)))
                observer.run_until(lambda: bool(arrived), 5.0, "a datagram from one machine to the other")
                observer.unregister(receiver.fileno())
            observer.quiesce(0.02)
            evidence = observer.evidence()
        return len(evidence.frames), len(evidence.traces), len(evidence.conntrack)

    def _ipv6(self) -> str:
        self.net_here.address("eth0", "2001:db8::1/64")
        return "an address was given"

    def _sctp(self) -> str:
        with self.here.entered():
            socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, socket.IPPROTO_SCTP).close()
        return "a socket was made"

    def _netem(self) -> str:
        self.here.run(["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1ms"])
        return "a delay was set"

    def _drops(self) -> str:
        drops = Drops()
        try:
            with self.there.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                # Nobody listens there: the kernel drops it, and says so.
                sender.sendto(b"tried", (THERE, PORT))
            found = [drop.reason for drop in drops.read()]
        finally:
            drops.close()
        if "NO_SOCKET" not in found:
            raise OSError(f"a datagram that nobody took was not told; told were {', '.join(found) or 'none'}")
        return "a drop was told: NO_SOCKET"


def _words(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())


def examine(told: int) -> int:
    """Process 1 of the sandbox: examine, and write the findings to the descriptor as JSON lines."""
    import json

    for finding in MiniLab().examine():
        line = json.dumps([finding.topic.name, finding.state, finding.found])
        try:
            os.write(told, line.encode() + b"\n")
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            return 1
    return 0
