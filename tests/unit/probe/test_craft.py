"""A filled-in template is the very packet that scapy makes of the same fields."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.probe.craft import internet_checksum
from hoplab.probe.crafter import CrafterProcess, CraftingFailed, ScapyCrafter
from hoplab.probe.scapy_layers import layers
from hoplab.probe.shapes import ACK, FIN, PSH, RST, SYN, Endpoint, Segment, Shape

CRAFTER = ScapyCrafter()
PORTS = st.integers(0, 0xFFFF)
PAYLOADS = st.binary(max_size=60)
NUMBERS = st.integers(0, 0xFFFFFFFF)


@st.composite
def endpoints(draw: st.DrawFn) -> tuple[Endpoint, Endpoint]:
    version = draw(st.sampled_from([4, 6]))
    address = st.ip_addresses(v=version).map(lambda given: ipaddress.ip_address(given).compressed)
    return Endpoint(draw(address), draw(PORTS)), Endpoint(draw(address), draw(PORTS))


@st.composite
def shapes(draw: st.DrawFn, version: int, protocol: str) -> Shape:
    mss = draw(st.sampled_from([0, 1460, 536])) if protocol == "tcp" else 0
    ttl, tos = draw(st.integers(1, 255)), draw(st.integers(0, 255))
    return Shape(version, protocol, ttl, tos, draw(st.booleans()), mss)  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    st.data(), endpoints(), NUMBERS, NUMBERS, st.sampled_from([SYN, ACK, PSH | ACK, FIN | ACK, RST]), PAYLOADS, PORTS
)
def test_tcp(
    data: st.DataObject,
    ends: tuple[Endpoint, Endpoint],
    seq: int,
    ack: int,
    flags: int,
    payload: bytes,
    identification: int,
) -> None:
    source, destination = ends
    shape = data.draw(shapes(source.version, "tcp"))
    ours = CRAFTER.template(shape).tcp(source, destination, Segment(flags, seq, ack, payload), identification)
    assert ours == layers().craft(
        shape,
        (source.address, destination.address),
        identification,
        payload,
        sport=source.port,
        dport=destination.port,
        seq=seq,
        ack=ack,
        flags=flags,
    )


@settings(deadline=None)
@given(st.data(), endpoints(), PAYLOADS, PORTS)
def test_udp(data: st.DataObject, ends: tuple[Endpoint, Endpoint], payload: bytes, identification: int) -> None:
    source, destination = ends
    shape = data.draw(shapes(source.version, "udp"))
    ours = CRAFTER.template(shape).udp(source, destination, payload, identification)
    assert ours == layers().craft(
        shape,
        (source.address, destination.address),
        identification,
        payload,
        sport=source.port,
        dport=destination.port,
    )


@settings(deadline=None)
@given(st.data(), endpoints(), PAYLOADS, PORTS, PORTS)
def test_icmp_echo(
    data: st.DataObject, ends: tuple[Endpoint, Endpoint], payload: bytes, number: int, identification: int
) -> None:
    source, destination = ends
    shape = data.draw(shapes(source.version, "icmp"))
    ours = CRAFTER.template(shape).icmp_echo(source, destination, number, payload, identification)
    assert ours == layers().craft(
        shape,
        (source.address, destination.address),
        identification,
        payload,
        id=source.port,
        seq=number,
    )


def test_the_internet_checksum_of_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2
    assert internet_checksum(b"") == 0xFFFF
    assert internet_checksum(b"\xff\xff") == 0
    assert internet_checksum(b"\x01") == 0xFEFF


def test_sequence_numbers_wrap() -> None:
    template = CRAFTER.template(Shape(4, "tcp"))
    source, destination = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)
    assert template.tcp(source, destination, Segment(ACK, 1 << 32, (1 << 32) + 5), 1) == template.tcp(
        source, destination, Segment(ACK, 0, 5), 1
    )


def test_the_process_gives_the_same_templates_and_others_when_asked() -> None:
    process = CrafterProcess()
    try:
        for shape in (Shape(4, "tcp"), Shape(6, "icmp"), Shape(4, "udp", ttl=3, tos=0x10, dont_fragment=False)):
            assert process.template(shape) == CRAFTER.template(shape)
            assert process.template(shape) is process.template(shape)
    finally:
        process.close()


def test_what_scapy_refuses_is_reported_and_the_process_goes_on() -> None:
    process = CrafterProcess(prepare=())
    try:
        with pytest.raises(CraftingFailed, match="scapy can't craft Shape"):
            process.template(Shape(4, "tcp", mss=1 << 40))
        assert process.template(Shape(4, "tcp")).head
    finally:
        process.close()


def test_a_dead_process_is_reported() -> None:
    process = CrafterProcess(prepare=())
    os.kill(process.pid, 9)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(CraftingFailed, match="has died"):
        process.template(Shape(4, "tcp"))


def test_scapy_stays_in_its_process_and_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    script = (
        "import sys; from hoplab.probe.crafter import CrafterProcess; from hoplab.probe.shapes import Shape;"
        "assert CrafterProcess().template(Shape(4, 'tcp')).head; print('scapy' in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**kept, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert list(tmp_path.iterdir()) == []
