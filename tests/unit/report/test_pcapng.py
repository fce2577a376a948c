"""The capture file, held against Wireshark's own reading of it.

These tests call tshark and capinfos (package tshark, `lab.py --setup` brings it) and
fail without them: a file that only its writer can read would be worth nothing.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hoplab.cli.bench_pcapng import measure
from hoplab.hops.evidence import Frame, Interface, Loss
from hoplab.hops.reason import Reason
from hoplab.report.annotate import frame_comments, section_comments
from hoplab.report.pcapng import ENHANCED_PACKET, PcapngWriter, write_pcapng
from tests.unit.hops.imaginary import START
from tests.unit.report.runs import EXPLAIN, HOSTILE, evidence, failed_run, good_run, hostile_run

NAMES = {
    "10.1.2.3": ["pod/d"],
    "203.0.113.10": ["client"],
    "10.0.0.1": ["service-b.default", "b"],
    "2001:db8::1": ["six"],
}


def tool(*command: str) -> str:
    """A Wireshark tool's output; its absence is a failure that says what to do."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is missing: install Debian's tshark (lab.py --setup does)")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(path: Path, *names: str, where: str = "", options: tuple[str, ...] = ()) -> list[list[str]]:
    asked = [part for name in names for part in ("-e", name)]
    read = tool("tshark", "-r", str(path), *options, *(("-Y", where) if where else ()), "-T", "fields", *asked)
    return [line.split("\t") for line in read.splitlines()]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures") / "run.pcapng"
    seen = evidence(overlay=True)
    comments = frame_comments(good_run(overlay=True).flows, seen.frames, EXPLAIN)
    assert write_pcapng(path, seen.frames, seen.interfaces, comments, NAMES, ["external-lb"]) == len(seen.frames)
    return path


@pytest.mark.lab
class TestReadByTshark:
    def test_every_frame_is_there_with_its_time_and_its_bytes(self, capture: Path) -> None:
        frames = evidence(overlay=True).frames
        rows = fields(capture, "frame.time_epoch", "frame.len", "frame.cap_len")
        assert len(rows) == len(frames)
        for frame, (when, length, kept) in zip(frames, rows, strict=True):
            seconds, _, nanoseconds = when.partition(".")
            # A nanosecond later for each frame before it that has the same stamp.
            same = sum(1 for other in frames if other.time_ns == frame.time_ns and other.number < frame.number)
            assert int(seconds) * 10**9 + int(nanoseconds) == frame.time_ns + same
            assert (int(length), int(kept)) == (frame.length, len(frame.data))

    def test_capinfos_finds_one_section_in_time_order(self, capture: Path) -> None:
        told = tool("capinfos", "-M", str(capture))
        assert re.search(r"^File type: .*pcapng$", told, re.MULTILINE)
        assert "Strict time order:   True" in told
        assert re.search(r"precision: +nanoseconds \(9\)", told)
        assert f"Number of interfaces in file: {len(evidence(overlay=True).interfaces)}" in told
        assert "Capture comment:     external-lb" in told
        assert "Capture application: hoplab" in told

    def test_interfaces_have_node_and_name(self, capture: Path) -> None:
        rows = fields(capture, "frame.interface_name", "frame.interface_description")
        expected = [f"{f.node}:{f.interface}" for f in evidence(overlay=True).frames]
        assert [row[0] for row in rows] == expected
        assert rows[0][1] == "veth eth0 of client, MTU 1500"

    def test_comments_tell_the_story_and_filter_by_flow(self, capture: Path) -> None:
        rows = fields(capture, "frame.comment", where='frame.comment contains "DNAT by"')
        told = [one for row in rows for one in row[0].split(",")]
        assert "flow 1: DNAT by KUBE-SEP-D for endpoint d of default/service-b" in told
        first = fields(capture, "frame.number", where='frame.comment contains "flow 1:"')
        second = fields(capture, "frame.number", where='frame.comment contains "flow 2:"')
        assert first
        assert second
        assert not {row[0] for row in first} & {row[0] for row in second}

    def test_directions(self, capture: Path) -> None:
        rows = fields(capture, "frame.packet_flags_direction")
        directions = [{"in": 1, "out": 2}[f.direction] for f in evidence(overlay=True).frames]
        assert [int(row[0], 0) for row in rows] == directions

    def test_names_resolve(self, capture: Path) -> None:
        rows = fields(capture, "ip.src_host", "ip.dst_host", where="ip.dst == 10.1.2.3 && !vxlan", options=("-NnN",))
        assert rows
        assert {row[1] for row in rows} == {"pod/d"}

    def test_no_frame_is_malformed(self, capture: Path) -> None:
        assert fields(capture, "frame.number", where="_ws.malformed") == []

    def test_a_tunnel_is_read_to_the_packet_inside(self, capture: Path) -> None:
        assert fields(
            capture, "frame.number", where="vxlan && tcp.flags.syn == 1", options=("-d", "udp.port==8472,vxlan")
        )


@pytest.mark.lab
def test_hostile_and_endless_text_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    interface = Interface("node\x1b[31m", "eth\n0" * 3000, 1, "02:00:00:00:00:01", 1500, "veth")
    frame = Frame(1, START, interface.node, interface.name, "in", bytes(60), 60)
    write_pcapng(
        path, [frame], [interface], {1: [HOSTILE, "grün " + "x" * 100_000]}, {"10.0.0.1": [HOSTILE]}, [HOSTILE]
    )
    told = tool("tshark", "-r", str(path), "-T", "fields", "-e", "frame.comment", "-e", "frame.interface_name")
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert r"\x1b[31mred" in told
    assert "grün xxx" in told
    assert told.count("\n") == 1


@pytest.mark.lab
def test_a_capture_without_any_frame_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    assert write_pcapng(path, []) == 0
    assert "Number of packets:   0" in tool("capinfos", str(path))


@pytest.mark.lab
def test_a_late_frame_finds_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frames = [Frame(n, START + n, "node1", "eth0", "in", bytes([n % 256]) * 60, 60) for n in range(3000)]
    late = [*frames[:700], *frames[701:1500], frames[700], *frames[1500:]]
    write_pcapng(path, late)
    assert "Strict time order:   True" in tool("capinfos", str(path))
    assert len(fields(path, "frame.number")) == 3000


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        yield kind, data[at + 8 : at + length - 4]
        at += length


def test_frames_of_one_moment_get_times_one_nanosecond_apart_and_keep_their_order() -> None:
    out = io.BytesIO()
    writer = PcapngWriter(out)
    for stamp in (0, 0, 0, 1, 5, 5, 9_000, 2_000):
        writer.frame(Frame(1, START + stamp, "node1", "eth0", "in", bytes(60), 60))
    times = [struct.unpack_from("<II", body, 4) for kind, body in blocks(out.getvalue()) if kind == ENHANCED_PACKET]
    # The last one was read too late for its place: where it belongs is in its stamp.
    assert [(high << 32 | low) - START for high, low in times] == [0, 1, 2, 3, 5, 6, 9_000, 2_000]


def test_blocks_stand_in_the_order_that_readers_need() -> None:
    out = io.BytesIO()
    writer = PcapngWriter(out)
    frame = Frame(1, START, "node1", "eth0", "out", bytes(61), 1500, "outgoing")
    writer.interface(Interface("node1", "eth0", 2, "02:00:00:00:00:01", 1500, "veth"))
    writer.interface(Interface("node1", "eth0", 2, "02:00:00:00:00:01", 1500, "veth"))
    writer.frame(frame)
    writer.frame(Frame(2, START, "pod/new", "eth0", "in", bytes(60), 60))
    assert [kind for kind, _body in blocks(out.getvalue())] == [0x0A0D0D0A, 1, 6, 1, 6]
    assert writer.frames == 2
    packet = next(body for kind, body in blocks(out.getvalue()) if kind == 6)
    assert struct.unpack_from("<IIIII", packet) == (0, START >> 32, START & 0xFFFFFFFF, 61, 1500)


def test_it_can_be_followed_while_it_is_written() -> None:
    """A pipe to a running Wireshark: every block is complete as soon as it is written, nothing is patched later."""

    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            list(blocks(self.data))
            return len(data)

    pipe = Pipe()
    writer = PcapngWriter(pipe)
    for number in range(1, 4):
        writer.frame(Frame(number, START + number, "node1", "eth0", "in", bytes(60), 60), ["flow 1: SYN"])
    assert pipe.data.count(b"flow 1: SYN") == 3


def test_a_large_capture_is_never_held_in_memory(tmp_path: Path) -> None:
    """`lab.py bench pcapng` does the same with 1 GB."""
    cost = measure(150_000_000, tmp_path)
    assert cost.frames == 150_000_000 // 1400
    assert cost.size > 150_000_000
    assert 0 < cost.grew < 12_000_000


def test_comments_name_packet_hop_rule_and_object() -> None:
    run = good_run()
    comments = frame_comments(run.flows, evidence().frames, EXPLAIN)
    came, left = run.flows[0].forward[2].frames
    assert comments[came] == ("flow 1: SYN, hop 3 of 5: node1",)
    assert comments[left] == (
        "flow 1: SYN, hop 3 of 5: node1",
        "flow 1: DNAT by KUBE-SEP-D for endpoint d of default/service-b",
        "flow 1: masquerade by KUBE-POSTROUTING for kubernetes",
    )
    back = run.flows[0].reply[2].frames[-1]
    assert comments[back][0] == "flow 1: SYN-ACK, hop 3 of 5 back: node1"
    assert comments[back][1:] == (
        "flow 1: destination rewritten (connection tracking)",
        "flow 1: source rewritten (connection tracking)",
    )


def test_the_last_frame_of_a_dropped_packet_says_who_dropped_it() -> None:
    run = failed_run()
    comments = frame_comments(run.flows, evidence().frames)
    last = run.flows[0].forward[-1].frames[-1]
    assert comments[last] == ("flow 1: SYN, hop 3 of 3: node1", "flow 1: drop by FORWARD")


REASON = Reason("policy", "node1", "the policy of FORWARD drops it", "filter FORWARD")


def test_the_frame_where_a_flow_was_last_seen_says_why_it_failed() -> None:
    run = failed_run()
    seen = evidence()
    last, elsewhere = run.flows[0].forward[-1].frames[-1], run.flows[0].forward[0].frames[0]
    why = "flow 1: why: policy in node1: the policy of FORWARD drops it"
    for reason, frame in ((REASON, last), (replace(REASON, frame=elsewhere), elsewhere)):
        told = replace(run.flows[0], reasons=(reason,))
        assert frame_comments([told], seen.frames)[frame][-1] == why
    nowhere = replace(run.flows[0], reasons=(REASON,), forward=(), passages=())
    assert not frame_comments([nowhere], seen.frames)


def test_the_file_says_which_run_it_is_how_it_went_and_how_many_frames_there_were() -> None:
    good, bad = good_run(), failed_run()
    assert section_comments("scenario", good, 99) == (
        "hoplab scenario external-lb: passed, 2 of 2 checks hold, seed 7; 99 frames seen",
        "flow 1: first: tcp, accepted",
        "flow 2: second: tcp, accepted",
    )
    failed = replace(bad, flows=(replace(bad.flows[0], reasons=(REASON,)),), losses=(Loss("lb", "frames", 3),))
    about = section_comments("check", failed, 99)
    assert about[0].endswith("failed, 1 of 2 checks hold, seed 7; 99 frames seen, 3 lost")
    assert about[2] == "flow 1: why: policy in node1: the policy of FORWARD drops it"
    assert about[3].startswith("failed: DNAT to pod d: expected ")


@pytest.mark.lab
def test_hostile_reasons_and_flow_names_are_text_in_the_whole_file(tmp_path: Path) -> None:
    path, run, seen = tmp_path / "x.pcapng", hostile_run(), evidence()
    comments = frame_comments(run.flows, seen.frames)
    write_pcapng(path, seen.frames, seen.interfaces, comments, {"10.0.0.1": [HOSTILE]}, section_comments("x", run, 1))
    read = tool("capinfos", str(path)) + tool("tshark", "-r", str(path), "-T", "fields", "-e", "frame.comment")
    assert r"why: no-route in \x1b[31mred" in read
    assert not [one for one in ("\x1b", "\u202e", "\0") if one in read]
    assert r"\u202etxt\n\x00" in read
