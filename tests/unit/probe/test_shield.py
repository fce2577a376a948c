"""Which packets the shield of each kind of namespace drops, and who speaks for a neighbour."""

from __future__ import annotations

import socket

import pytest

from hoplab.net.namespaces import Role
from hoplab.probe.edges import told_address
from hoplab.probe.shield import sends_frames, shield_text

HOST_SHIELD = """\
table inet hoplab_probe
delete table inet hoplab_probe
table inet hoplab_probe {
	chain shield {
		type filter hook prerouting priority -450; policy accept;
		fib daddr type local meta l4proto { tcp, udp } th dport 40000-49999 drop
	}
}
"""
NODE_SHIELD = """\
table inet hoplab_probe
delete table inet hoplab_probe
table inet hoplab_probe {
	chain shield {
		type filter hook output priority -450; policy accept;
		tcp sport 40000-49999 tcp flags & rst == rst tcp window 0 drop
		icmp type destination-unreachable icmp code port-unreachable @th,240,16 >= 40000 @th,240,16 <= 49999 drop
		icmpv6 type destination-unreachable icmpv6 code port-unreachable @th,400,16 >= 40000 @th,400,16 <= 49999 drop
	}
}
"""


@pytest.mark.parametrize("role", ["client", "pod", "host"])
def test_a_host_drops_what_comes_for_probes_before_its_kernel_sees_it(role: Role) -> None:
    assert sends_frames(role)
    assert shield_text(role) == HOST_SHIELD


@pytest.mark.parametrize("role", ["node", "balancer", "router"])
def test_a_node_lets_answers_in_and_swallows_its_kernels_protest(role: Role) -> None:
    assert not sends_frames(role)
    assert shield_text(role) == NODE_SHIELD


MAC = bytes.fromhex("020000000007")
IP4 = socket.inet_aton("10.240.0.1")
IP6 = socket.inet_pton(socket.AF_INET6, "fd00::1")


def arp(operation: int) -> bytes:
    body = b"\x00\x01\x08\x00\x06\x04" + operation.to_bytes(2, "big") + MAC + IP4 + bytes(10)
    return bytes(6) + MAC + b"\x08\x06" + body


def advertisement(option: bytes) -> bytes:
    header = b"\x60\0\0\0\0\x20\x3a\xff" + IP6 + IP6
    return bytes(6) + MAC + b"\x86\xdd" + header + b"\x88\0\0\0\x60\0\0\0" + IP6 + option


def test_arp_replies_and_neighbour_advertisements_tell_a_hardware_address() -> None:
    assert told_address(arp(2)) == ("10.240.0.1", MAC)
    other = bytes.fromhex("020000000008")
    assert told_address(advertisement(b"\x02\x01" + other)) == ("fd00::1", other)
    assert told_address(advertisement(b"")) == ("fd00::1", MAC), "without the option the frame's sender it is"


@pytest.mark.parametrize("frame", [arp(1), arp(2)[:30], b"", bytes(100), advertisement(b"")[:60]])
def test_anything_else_tells_none(frame: bytes) -> None:
    assert told_address(frame) is None
