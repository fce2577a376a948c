"""The observer on a real network: what happens is seen, at once and whole, or told as lost."""

import subprocess

import pytest

from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab


def with_two_hosts(act, **observing):
    """Run `act(observer, left, right)` on two hosts with a link, 10.9.0.1 and 10.9.0.2, both watched."""

    def inside():
        from hoplab.net.namespaces import Namespace
        from hoplab.net.netlink import Netlink
        from hoplab.net.zygote import NodeSpec, Zygote
        from hoplab.watch.observer import Observer
        from hoplab.watch.watched import Target

        zygote = Zygote()
        pids = zygote.nodes([NodeSpec("left"), NodeSpec("right")])
        left, right = (Namespace(name, pid, "node") for name, pid in zip(("left", "right"), pids, strict=True))
        link = Netlink(left)
        link.veth("eth0", "02:00:00:00:00:01", "eth0", "02:00:00:00:00:02", peer=right, index=100)
        for namespace, address in ((link, "10.9.0.1/24"), (Netlink(right), "10.9.0.2/24")):
            namespace.address("eth0", address)
            namespace.up("eth0")
        with Observer([Target(left, **observing), Target(right, **observing)]) as observer:
            return act(observer, left, right)

    return in_sandbox(inside)


def datagram(namespace, to, payload, port=7):
    import socket

    with namespace.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.sendto(payload, (to, port))
    sender.close()


def test_the_first_packet_after_open_is_always_seen():
    def act(observer, left, right):
        from hoplab.watch.observer import Observer
        from hoplab.watch.watched import Target

        datagram(left, "10.9.0.2", b"resolve the neighbour first")
        seen = 0
        for number in range(100):
            with Observer([Target(right)]) as fresh:
                datagram(left, "10.9.0.2", b"first-%d" % number)
                fresh.quiesce(0.001)
                seen += any(b"first-%d" % number in frame.data for frame in fresh.evidence().frames)
        return seen

    assert with_two_hosts(act) == 100


def test_frames_are_seen_at_both_ends_in_time_order():
    def act(observer, left, right):
        datagram(left, "10.9.0.2", b"hello")
        observer.quiesce()
        return observer.evidence()

    evidence = with_two_hosts(act)
    mine = [frame for frame in evidence.frames if b"hello" in frame.data and frame.data[23:24] == b"\x11"]
    assert [(f.node, f.interface, f.direction) for f in mine] == [("left", "eth0", "out"), ("right", "eth0", "in")]
    assert [frame.number for frame in evidence.frames] == list(range(1, len(evidence.frames) + 1))
    assert [f.time_ns for f in evidence.frames] == sorted(f.time_ns for f in evidence.frames)
    assert evidence.losses == ()
    assert {(i.node, i.name, i.mac) for i in evidence.interfaces} >= {("left", "eth0", "02:00:00:00:00:01")}


def test_a_capture_file_has_as_many_frames_as_the_kernel_counted(tmp_path):
    def act(observer, left, right):
        from hoplab.report.pcapng import write_pcapng

        rings = [watched.ring for watched in observer._watched.values()]
        for number in range(300):
            datagram(left, "10.9.0.2", b"%d" % number)
        observer.quiesce()
        assert not any(ring.lost() for ring in rings)
        before = sum(ring.counted for ring in rings)
        seen = observer.evidence()
        after = sum(ring.counted for ring in rings)
        return before, write_pcapng(tmp_path / "x.pcapng", seen.frames, seen.interfaces), after

    before, written, after = with_two_hosts(act)
    # Whatever the kernel sends on its own between two looks at its count (neighbour discovery) is in the second.
    assert 600 <= before <= written <= after <= before + 20
    command = ["tshark", "-r", str(tmp_path / "x.pcapng"), "-T", "fields", "-e", "frame.number"]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(read) == written


def test_what_a_ring_cannot_hold_is_told():
    def act(observer, left, right):
        for number in range(3000):
            datagram(left, "10.9.0.2", b"%d" % number)
        return observer.evidence().losses

    losses = {(loss.node, loss.source): loss.lost for loss in with_two_hosts(act)}
    assert losses["left", "frames"] > 0


def test_rules_are_named_by_their_own_tools_text():
    def act(observer, left, right):
        argv = ["iptables", "-t", "nat", "-A", "OUTPUT", "-p", "udp", "--dport", "7"]
        comment = ["-m", "comment", "--comment", "to the other port", "-j", "REDIRECT", "--to-ports", "9"]
        left.run([*argv, *comment])
        observer.trace_only("all")
        datagram(left, "10.9.0.2", b"traced")
        observer.quiesce()
        evidence = observer.evidence()
        handles = {(i.table, i.chain, i.handle): text.text for i, text in evidence.rules.items()}
        return [
            (event.kind, event.verdict, handles.get((event.table, event.chain, event.handle), ""))
            for event in evidence.traces
            if event.node == "left" and event.table == "nat" and event.chain == "OUTPUT"
        ]

    (event,) = with_two_hosts(act, trace=True)
    assert event[:2] == ("rule", "accept")
    assert event[2].startswith("-A OUTPUT -p udp -m udp --dport 7 -m comment --comment")


def test_connections_come_change_and_go():
    def act(observer, left, right):
        from hoplab.watch.connections import delete_conntrack, dump_conntrack

        right.run(["iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT"])
        datagram(left, "10.9.0.2", b"tracked")
        observer.quiesce()
        (entry,) = [one for one in dump_conntrack(right) if one.original.dport == 7]
        gone = [delete_conntrack(right, entry), delete_conntrack(right, entry)]
        observer.quiesce()
        kinds = [e.kind for e in observer.evidence().conntrack if e.node == "right" and e.id == entry.id]
        return entry.protocol, entry.original.src, gone, kinds

    assert with_two_hosts(act, conntrack=True) == ("udp", "10.9.0.1", [True, False], ["new", "destroy"])


def test_an_unmet_condition_is_named():
    def act(observer, left, right):
        from hoplab.net.loop import DeadlinePassed

        try:
            observer.run_until(lambda: False, 0.05, "a miracle")
        except DeadlinePassed as error:
            return str(error)
        return ""

    assert with_two_hosts(act) == "waited 0.05 s for a miracle, in vain"
