"""The balancer's rules do in the kernel what they promise: hash, alternation, kept flows, changes of candidates."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hoplab.dataplane.balancer import (
    Backend,
    Balancer,
    Frontend,
    balancer_changes,
    balancer_text,
    policy_routes,
)
from hoplab.dataplane.haproxy import haproxy_config
from hoplab.setup.programs import find
from tests.unit.dataplane.nft_bench import Bench

pytestmark = pytest.mark.lab

NODE1, NODE2 = Backend("node1", "10.240.0.11", 30080), Backend("node2", "10.240.0.12", 30080)
TCP = Frontend("198.51.100.10", 80, "TCP", "default/service-b", (NODE1, NODE2))
UDP = replace(TCP, protocol="UDP")
PORTS = range(40000, 40064)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as network:
        yield network


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_nat_hash_same_tuple_same_node_and_64_tuples_use_both(bench: Bench, protocol: str):
    bench.load(balancer_text(Balancer("hash", "nat", (TCP, UDP))))
    first = bench.ask(*PORTS, protocol=protocol)
    bench.run("conntrack", "-F")
    assert bench.ask(*PORTS, protocol=protocol) == first
    assert set(first) == {"node1 203.0.113.10", "node2 203.0.113.10"}


def test_nat_round_robin_alternates_exactly(bench: Bench):
    bench.load(balancer_text(Balancer("round-robin", "nat", (TCP, UDP))))
    answers = bench.ask(*range(40000, 40010))
    assert answers == ["node1 203.0.113.10", "node2 203.0.113.10"] * 5


def test_each_frontend_counts_for_itself(bench: Bench):
    bench.load(balancer_text(Balancer("round-robin", "nat", (TCP, UDP))))
    assert bench.ask(40000) == ["node1 203.0.113.10"]
    assert bench.ask(40000, protocol="udp") == ["node1 203.0.113.10"]
    assert bench.ask(40001) == ["node2 203.0.113.10"]


def test_a_failed_node_gets_no_new_flow_and_keeps_its_old_ones(bench: Bench):
    before = Balancer("round-robin", "nat", (UDP,))
    after = Balancer("round-robin", "nat", (replace(UDP, backends=(NODE2,)),))
    bench.load(balancer_text(before))
    assert bench.ask(40000, 40001, protocol="udp") == ["node1 203.0.113.10", "node2 203.0.113.10"]
    bench.load(balancer_changes(before, after))
    assert bench.ask(*range(40002, 40012), protocol="udp") == ["node2 203.0.113.10"] * 10
    assert bench.ask(40000, protocol="udp") == ["node1 203.0.113.10"]


def test_a_reload_of_another_frontend_does_not_reset_the_count(bench: Bench):
    other = replace(TCP, vip="198.51.100.11")
    before = Balancer("round-robin", "nat", (TCP, other))
    bench.load(balancer_text(before))
    assert bench.ask(40000) == ["node1 203.0.113.10"]
    bench.load(balancer_changes(before, Balancer("round-robin", "nat", (TCP, replace(other, backends=(NODE1,))))))
    assert bench.ask(40001, 40002) == ["node2 203.0.113.10", "node1 203.0.113.10"]


def test_without_candidates_silence_or_refusal(bench: Bench):
    empty = (replace(TCP, backends=()), replace(UDP, backends=()))
    bench.load(balancer_text(Balancer("hash", "nat", empty)))
    assert bench.ask(40000, seconds=0.3) == [None]
    bench.load(balancer_text(Balancer("hash", "nat", empty, no_candidates="reject")))
    assert bench.ask(40001) == ["refused"]
    assert bench.ask(40001, protocol="udp") == ["refused"]
    bench.load(
        balancer_changes(Balancer("hash", "nat", empty, no_candidates="reject"), Balancer("hash", "nat", (TCP,)))
    )
    assert bench.ask(40002)[0] in ("node1 203.0.113.10", "node2 203.0.113.10")


def test_a_flow_from_a_node_back_into_the_cluster_is_masqueraded(bench: Bench):
    bench.run("ip", "-n", "node1", "address", "del", "198.51.100.10", "dev", "lo")
    bench.load(balancer_text(Balancer("round-robin", "nat", (TCP,), inside=("10.240.0.0/16",))))
    ask = "import socket; print(socket.create_connection(('198.51.100.10', 80), 2).recv(99).decode())"
    argv = ("ip", "netns", "exec", "node1", sys.executable, "-S", "-c", ask)
    assert [bench.run(*argv), bench.run(*argv)] == ["node1 10.240.0.2\n", "node2 10.240.0.2\n"]


def test_a_port_without_frontend_is_dropped(bench: Bench):
    bench.load(balancer_text(Balancer("hash", "nat", (replace(TCP, port=81),))))
    assert bench.ask(40000, seconds=0.3) == [None]


@pytest.mark.parametrize("algorithm", ["hash", "round-robin"])
def test_passthrough_hands_the_packet_to_the_node_with_the_vip_kept(bench: Bench, algorithm: Any):
    balancer = Balancer(algorithm, "passthrough", (TCP, UDP))
    bench.load(balancer_text(balancer))
    for route in policy_routes(["10.240.0.11", "10.240.0.12"]):
        bench.run("ip", "rule", "add", "fwmark", str(route.mark), "lookup", str(route.table))
        bench.run("ip", "route", "add", "default", "via", route.via, "table", str(route.table))
    for protocol in ("tcp", "udp"):
        first = bench.ask(*range(40000, 40016), protocol=protocol)
        assert set(first) == {"node1 203.0.113.10", "node2 203.0.113.10"}
        if algorithm == "round-robin":
            assert first == ["node1 203.0.113.10", "node2 203.0.113.10"] * 8
    # A known flow stays, whatever the candidates become, and a new one meets only those.
    known = bench.ask(*range(40000, 40016), protocol="udp")
    assert known == first
    after = Balancer(algorithm, "passthrough", (TCP, replace(UDP, backends=(NODE2,))))
    bench.load(balancer_changes(balancer, after))
    assert bench.ask(*range(40000, 40016), protocol="udp") == first
    assert set(bench.ask(*range(40100, 40116), protocol="udp")) == {"node2 203.0.113.10"}


@pytest.mark.parametrize("mode", ["nat", "passthrough"])
@pytest.mark.parametrize("algorithm", ["hash", "round-robin"])
def test_ipv6(bench: Bench, mode: Any, algorithm: Any):
    backends = (Backend("node1", "fd00:240::11", 30080), Backend("node2", "fd00:240::12", 30080))
    frontends = tuple(Frontend("2001:db8:10::10", 80, each, "default/six", backends) for each in ("TCP", "UDP"))
    bench.load(balancer_text(Balancer(algorithm, mode, frontends)))
    if mode == "passthrough":
        for route in policy_routes(["fd00:240::11", "fd00:240::12"]):
            bench.run("ip", "-6", "rule", "add", "fwmark", str(route.mark), "lookup", str(route.table))
            bench.run("ip", "-6", "route", "add", "default", "via", route.via, "table", str(route.table))
    for protocol in ("tcp", "udp"):
        answers = bench.ask(*range(40000, 40016), protocol=protocol, family="IPv6")
        assert set(answers) == {"node1 2001:db8:c::10", "node2 2001:db8:c::10"}
        if algorithm == "round-robin":
            assert answers == ["node1 2001:db8:c::10", "node2 2001:db8:c::10"] * 8
    assert bench.ask(*range(40000, 40016), protocol="udp", family="IPv6") == answers


def haproxy(*argv: str) -> tuple[str, ...]:
    found = find("haproxy")
    assert found is not None
    return ("env", *(f"{key}={value}" for key, value in found.environment().items()), found.path, *argv)


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("algorithm", ["hash", "round-robin"])
def test_proxy_opens_a_connection_of_its_own(bench: Bench, algorithm: Any, tmp_path: Path):
    bench.run("ip", "address", "add", "198.51.100.10/32", "dev", "lo")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(haproxy_config(Balancer(algorithm, "proxy", (TCP,))))
    bench.start(*haproxy("-db", "-f", str(configuration)))
    listening = (bench.ask(39999, seconds=0.1) != ["refused"] for _ in range(50))
    assert any(listening), "HAProxy did not open its port"
    answers = bench.ask(*PORTS)
    assert set(answers) == {"node1 10.240.0.2", "node2 10.240.0.2"}
    if algorithm == "round-robin":
        assert all(one != following for one, following in pairwise(answers))
    else:
        assert bench.ask(*PORTS) == answers


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("algorithm", ["hash", "round-robin"])
@pytest.mark.parametrize("send_proxy", [False, True])
def test_haproxy_itself_finds_every_configuration_valid(algorithm: Any, send_proxy: bool, tmp_path: Path):
    checked = tuple(replace(each, check=10256) for each in (NODE1, NODE2))
    six = (Backend("node1", "fd00:240::11", 30080, 10256),)
    frontends = (
        replace(TCP, backends=checked),
        replace(TCP, port=81),
        replace(TCP, port=82, backends=()),
        replace(TCP, vip="2001:db8:10::10", backends=six),
    )
    configuration = tmp_path / "haproxy.cfg"
    text = haproxy_config(Balancer(algorithm, "proxy", frontends), send_proxy=send_proxy, admin=str(tmp_path / "admin"))
    configuration.write_text(text)
    done = subprocess.run(haproxy("-c", "-f", str(configuration)), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
