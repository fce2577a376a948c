"""`trace` and `capture` in a running lab: the same evidence as a scenario's, and nothing of the instruments stays."""

import json
import os
import signal
import socket
import struct
import subprocess

import pytest

from tests.host import children_of
from tests.lab.labs.labtool import MANIFESTS, somebody
from tests.waiting import until

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    with somebody(tmp_path_factory.mktemp("looking") / "run") as someone:
        someone.good("up", "--detach", "-f", MANIFESTS / "services-a-b.yaml")
        yield someone


def test_a_trace_tells_the_way_hop_by_hop(user):
    document = json.loads(user.good("trace", "client", "svc/service-b", "--count", "8", "--json"))
    assert (document["version"], document["passed"], len(document["flows"])) == (1, True, 8)
    assert {flow["outcome"] for flow in document["flows"]} == {"accepted"}
    ways = {tuple(hop["node"] for hop in flow["forward"]) for flow in document["flows"]}
    assert ways <= {("client", "lb", "node1", "node2", "pod/d"), ("client", "lb", "node2", "pod/d")}
    # Eight source ports, and a hash over them picks each of two nodes: all by one node once in 128 seeds.
    assert len(ways) == 2
    assert [check["name"] for check in document["checks"]][-1] == "flows as foretold"


def test_a_trace_sends_as_much_and_from_the_ports_that_it_is_told(user):
    asked = ("--size", "4000", "--source-port", "47000", "--count", "2")
    flows = json.loads(user.good("trace", "pod/a", "pod/d", *asked, "--json"))["flows"]
    assert [flow["forward"][0]["before"]["sport"] for flow in flows] == [47000, 47001]
    # 4000 bytes are three segments of 1460 at most.
    sent = [[each["label"] for each in flow["passages"] if not each["reply"]].count("DATA") for flow in flows]
    assert sent == [3, 3]
    assert user("trace", "pod/a", "pod/d", "--source-port", "65535", "--count", "2").returncode == 2
    assert user("trace", "pod/a", "pod/d", "--source-port", "47000", "--proto", "icmp").returncode == 2


def test_a_trace_leaves_no_rule_behind(user):
    places = ("client", "lb", "node1", "pod/a")
    before = [user.good("exec", place, "--", "nft", "-s", "list", "ruleset") for place in places]
    user.good("trace", "client", "svc/service-b", "-q")
    user.good("trace", "pod/a", "svc/service-b", "-q")
    assert user("trace", "client", "svc/service-x", "-q").returncode == 2
    assert [user.good("exec", place, "--", "nft", "-s", "list", "ruleset") for place in places] == before


def test_what_is_not_answered_is_exit_1_and_says_why(user):
    done = user("trace", "client", "node1:9")
    assert done.returncode == 1
    assert "rejected" in done.stdout
    assert user.good("trace", "pod/a", "pod/d", "--proto", "icmp", "-q").startswith("trace pod/a pod/d: passed")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("client", "svc/servce-b"), "Did you mean svc/service-b?"),
        (("clint", "svc/service-b"), "Did you mean client?"),
        (("client", "node1"), "nothing says which port; write node1:80"),
    ],
)
def test_a_wrong_name_is_exit_2(user, arguments, told):
    done = user("trace", *arguments)
    assert (done.returncode, told in done.stderr, done.stdout) == (2, True, "")


def test_a_fresh_lab_for_one_trace(user):
    file = MANIFESTS / "services-a-b.yaml"
    document = json.loads(
        user.good("trace", "client", "svc/service-b", "-f", file, "--json", "--proxy-mode", "nftables")
    )
    assert document["passed"]
    assert document["flows"][0]["forward"][-1]["node"] == "pod/d"


def fields(path, *names):
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *(word for name in names for word in ("-e", name))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_capture_has_every_interface_by_its_name(user, tmp_path):
    path = tmp_path / "all.pcapng"
    running = user.start("capture", "-w", path, stderr=subprocess.PIPE, text=True)
    until(lambda: path.exists() and path.stat().st_size > 0, "the capture to begin")
    for _ in range(4):
        user.good("exec", "client", "--", "curl", "-sf", "http://198.51.100.11/")
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 0
    told = running.stderr.read()
    running.stderr.close()
    rows = fields(path, "frame.interface_name", "frame.time_epoch", "tcp.flags.syn")
    assert f"{len(rows)} frames in {path}" in told
    assert {"client:eth0", "lb:eth0", "lb:eth1", "node2:eth0", "pod/d:eth0"} <= {row[0] for row in rows}
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    # The names in the file, and no name server, tell who an address is.
    told = subprocess.run(["tshark", "-N", "n", "-r", str(path)], capture_output=True, text=True, check=True).stdout
    assert "pod/d" in told
    assert "svc/service-b" in told


def test_a_live_capture_of_some_places_goes_to_a_pipe_and_ends_with_it(user):
    running = user.start("capture", "--live", "pod/d", "node2", stdout=subprocess.PIPE)
    kind, length = struct.unpack("<II", running.stdout.read(8))
    assert kind == 0x0A0D0D0A
    running.stdout.read(length - 8)
    user.good("exec", "client", "--", "curl", "-sf", "http://198.51.100.11/")
    interfaces, frames = [], 0
    while frames < 4:
        kind, length = struct.unpack("<II", running.stdout.read(8))
        body = running.stdout.read(length - 8)
        interfaces += [body] if kind == 1 else []
        frames += kind == 6
    assert all(b"pod/d:" in body or b"node2:" in body for body in interfaces)
    running.stdout.close()
    user.good("exec", "client", "--", "curl", "-sf", "http://198.51.100.11/")
    assert running.wait(10) == 0


def test_a_capture_that_cannot_be_is_exit_2(user, tmp_path):
    for arguments in ((), ("--live", "-w", tmp_path / "x"), ("-w", tmp_path / "no" / "x"), ("-w", "x", "nod1")):
        assert user("capture", *arguments).returncode == 2


def spoken(user, *messages, descriptors=()):
    """What the lab says to these bytes; '' for nothing."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened.settimeout(10)
    opened.connect(str(user.runtime / "hoplab-labs" / "lab" / "control"))
    try:
        for message in messages:
            socket.send_fds(opened, [message], list(descriptors))
        return opened.recv(1 << 16).decode()
    except (BrokenPipeError, ConnectionResetError):
        return ""
    finally:
        opened.close()


def test_whatever_is_said_to_the_control_socket_the_lab_goes_on(user):
    known = json.dumps({"version": 1, "ask": "status"}).encode()
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
    odd = [b"no json", b"[]", b"{}", b"[" * 60_000, b"\xff" * 1000, b'{"spilled": 5}', b'{"version": 1, "ask": "exec"}']
    for message in odd:
        assert "error" in spoken(user, message), message[:20]
    assert json.loads(spoken(user, known))["nodes"] == 2
    exec_ = {"version": 1, "ask": "exec", "target": "node1", "argv": ["true"]}
    assert "exec comes with 3 descriptors" in spoken(user, json.dumps(exec_).encode(), descriptors=many)
    for descriptor in many:
        os.close(descriptor)
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(50)]
    for each in silent:
        each.connect(str(user.runtime / "hoplab-labs" / "lab" / "control"))
    user.good("exec", "node1", "--", "true")
    for each in silent:
        each.close()
    # Nothing of all that stays with the lab.
    keeper = user.labs()["lab"]["keeper"]
    first = children_of(children_of(keeper)[0])[0]
    assert len([name for name in os.listdir(f"/proc/{first}/fd") if "/dev/null" in _link(first, name)]) < 10


def _link(process, descriptor):
    try:
        return os.readlink(f"/proc/{process}/fd/{descriptor}")
    except OSError:
        return ""
