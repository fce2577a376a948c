"""The namespaces of kernel_net.py, spoken to from a test, and the same node as the evaluator knows it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoplab.model.packet import Host, Interface, Packet, Route
from hoplab.model.prediction import Prediction

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("kernel_net.py")
NODE = Host(
    interfaces=(
        Interface("lo", ("127.0.0.1/8",)),
        Interface("eth0", ("192.168.0.2/24",)),
        Interface("cni0", ("10.180.0.254/24",)),
    ),
    routes=(Route("default", "eth0", "192.168.0.8"),),
    forward=True,
)
SENDERS = {"192.168.0.9": ("outside", "eth0"), "10.180.0.5": ("pods", "cni0"), "192.168.0.2": ("", "")}
"""Source address -> its namespace, and the interface by which its packets come into the node."""
RECEIVERS = {"eth0": "outside", "cni0": "pods"}


@dataclass(frozen=True)
class Tried:
    """What the kernel lists, and what became of each packet: (where, destination, port, source), or one word."""

    iptables: str
    nft: str
    seen: tuple[tuple[Any, ...], ...]


class Refused(Exception):
    """The kernel's tools didn't take the rules."""


class KernelBench:
    """The node in the kernel."""

    def __init__(self) -> None:
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", *user, sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._port = 20000

    def attempt(self, packets: Sequence[Packet], *, iptables: str = "", nft: str = "") -> Tried:
        """Load the rules into an empty node and send the packets; raises Refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        sent = [
            {"from": SENDERS[each.src][0], "src": each.src, "sport": each.sport, "dst": each.dst, "dport": each.dport}
            for each in packets
        ]
        self._process.stdin.write(json.dumps({"iptables": iptables, "nft": nft, "packets": sent}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return Tried(answer["iptables"], answer["nft"], tuple(tuple(each) for each in answer["seen"]))

    def packet(self, src: str, dst: str, dport: int) -> Packet:
        """A UDP packet that opens a connection of its own."""
        self._port = 20000 + (self._port - 19999) % 40000
        return Packet(src, self._port, dst, dport, "udp", in_interface=SENDERS[src][1], tcp_flags=())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


def seen_as(prediction: Prediction) -> tuple[Any, ...]:
    """What the bench would see of this outcome."""
    if not prediction.passes:
        return (prediction.outcome,)
    where = "node" if prediction.delivered else RECEIVERS[prediction.out_interface]
    return (where, prediction.packet.dst, prediction.packet.dport, prediction.packet.src)
