"""A node between two neighbours, in fresh namespaces, through which real packets are sent to see what rules do to them.

Runs inside `unshare --net --mount`: this process' namespace is the node.  `outside` hangs on its eth0, `pods` on its
cni0.  Commands come as JSON lines on standard input: rules to load and packets to send; the answer tells what the
kernel lists and where each packet was seen: by whom, with which addresses, refused, or nowhere.  Tests use it by
kernel_bench.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from hoplab.net.kernel import CLONE_NEWNET, setns

NEIGHBOURS = {
    "outside": ("eth0", "192.168.0.2/24", ("192.168.0.9/24", "192.168.0.8/24"), "192.168.0.2"),
    "pods": ("cni0", "10.180.0.254/24", ("10.180.0.5/24", "10.180.0.1/24", "10.180.0.2/24"), "10.180.0.254"),
}
LISTENING = range(5001, 5007)
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.icmp_ratelimit=0",
)
QUIET = "table ip quiet { chain input { type filter hook input priority 0; udp dport 5000-5999 drop; }; }"
PATIENCE_S = 0.06
"""How long after the last sign of any packet the missing ones count as dropped."""
ETH_P_IP, PACKET_OUTGOING, IP_RECVERR, IP_PKTINFO = 0x0800, 4, 11, 8


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}{stdin}")
    return done.stdout


class Inside:
    """This process in another network namespace for a while."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        if self._name:
            self._here = os.open("/proc/self/ns/net", os.O_RDONLY)
            there = os.open(f"/run/netns/{self._name}", os.O_RDONLY)
            setns(there, CLONE_NEWNET)
            os.close(there)

    def __exit__(self, *_: object) -> None:
        if self._name:
            setns(self._here, CLONE_NEWNET)
            os.close(self._here)


def build() -> None:
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("sysctl", "-eqw", *SETTINGS)
    run("ip", "link", "set", "lo", "up")
    for name, (device, own, addresses, gateway) in NEIGHBOURS.items():
        run("ip", "netns", "add", name)
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", own, "dev", device)
        run("ip", "link", "set", device, "up")
        inside = ("ip", "-n", name)
        for address in addresses:
            run(*inside, "address", "add", address, "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", gateway)
        mac = json.loads(run(*inside, "-j", "link", "show", "eth0"))[0]["address"]
        own_mac = json.loads(run("ip", "-j", "link", "show", device))[0]["address"]
        run(*inside, "neigh", "replace", gateway, "lladdr", own_mac, "dev", "eth0")
        for address in addresses:
            run("ip", "neigh", "replace", address.partition("/")[0], "lladdr", mac, "dev", device)
        # Neighbours only watch: an error of theirs would look like a refusal by the node's rules.
        run("ip", "netns", "exec", name, "nft", QUIET)
    # The kernel limits how often it says "no route", so every address has one.
    run("ip", "route", "add", "default", "via", "192.168.0.8")


class Watchers:
    """Every place where a packet may turn up."""

    def __init__(self) -> None:
        self.taps: dict[socket.socket, str] = {}
        for name in NEIGHBOURS:
            with Inside(name):
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
                tap.bind(("eth0", ETH_P_IP))
                self.taps[tap] = name
        self.servers = []
        for port in LISTENING:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            server.bind(("0.0.0.0", port))
            self.servers.append(server)

    def read(self, ready: socket.socket) -> tuple[str, list[Any]] | None:
        """The token of what came, and [where, destination, port, source]."""
        if ready in self.taps:
            data, address = ready.recvfrom(2000)
            header = (data[0] & 15) * 4
            if address[2] == PACKET_OUTGOING or data[9] != socket.IPPROTO_UDP:
                return None
            port = struct.unpack("!H", data[header + 2 : header + 4])[0]
            token = data[header + 8 :].rstrip(b"\0").decode()
            return token, [self.taps[ready], socket.inet_ntoa(data[16:20]), port, socket.inet_ntoa(data[12:16])]
        data, ancillary, _, source = ready.recvmsg(2000, 200)
        destination = next(value for level, kind, value in ancillary if kind == IP_PKTINFO)
        return data.decode(), ["node", socket.inet_ntoa(destination[8:12]), ready.getsockname()[1], source[0]]


def send(packet: dict[str, Any], token: str) -> tuple[socket.socket, list[Any] | None]:
    """The sender's socket, and what it was told at once."""
    with Inside(packet["from"]):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    sender.bind((packet["src"], packet["sport"]))
    try:
        sender.connect((packet["dst"], packet["dport"]))
        sender.send(token.encode())
    except PermissionError:
        return sender, ["rejected"] if sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else ["dropped"]
    except OSError:
        return sender, ["dropped"]
    return sender, None


def attempt(watchers: Watchers, packets: list[dict[str, Any]]) -> list[list[Any]]:
    """Send all packets; where each was seen."""
    tokens = [f"token {packet['sport']} {index}" for index, packet in enumerate(packets)]
    seen: dict[str, list[Any]] = {}
    senders: dict[int, tuple[socket.socket, str]] = {}
    poll = select.poll()
    for each in (*watchers.taps, *watchers.servers):
        poll.register(each, select.POLLIN)
    by_number = {each.fileno(): each for each in (*watchers.taps, *watchers.servers)}
    for token, packet in zip(tokens, packets, strict=True):
        sender, told = send(packet, token)
        if told:
            seen[token] = told
        senders[sender.fileno()] = (sender, token)
        poll.register(sender, select.POLLERR)
    deadline = time.monotonic() + PATIENCE_S
    while len(seen) < len(packets) and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            if number in senders:
                sender, token = senders[number]
                poll.unregister(number)
                if sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    seen.setdefault(token, ["rejected"])
            elif (found := watchers.read(by_number[number])) is not None and found[0] in tokens:
                seen[found[0]] = found[1]
            deadline = time.monotonic() + PATIENCE_S
    for sender, _ in senders.values():
        sender.close()
    return [seen.get(token, ["dropped"]) for token in tokens]


def main() -> None:
    build()
    watchers = Watchers()
    for line in sys.stdin:
        command = json.loads(line)
        run("nft", "flush", "ruleset")
        answer: dict[str, Any] = {}
        try:
            if command["iptables"]:
                run("iptables-restore", stdin=command["iptables"])
            if command["nft"]:
                run("nft", "-f", "-", stdin=command["nft"])
        except RuntimeError as error:
            answer["refused"] = str(error)
        else:
            answer["iptables"] = run("iptables-save") if command["iptables"] else ""
            answer["nft"] = run("nft", "list", "ruleset") if command["nft"] else ""
            answer["seen"] = attempt(watchers, command["packets"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
