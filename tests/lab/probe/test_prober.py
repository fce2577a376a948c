"""Probes over real interfaces, through a node that rewrites them, to a pod's real sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hoplab.net.namespaces import Namespace, Role
from hoplab.net.netlink import Netlink, write_sysctls
from hoplab.net.podconfig import Listener, ServerConfig, wrong_source_rules
from hoplab.net.zygote import NodeSpec, Zygote
from hoplab.probe.clients import Clients
from hoplab.probe.prober import Prober, ProbeRefused, spread
from hoplab.probe.result import Probe
from hoplab.probe.seen import read_frame
from hoplab.probe.shapes import RST
from hoplab.probe.shield import shield_text
from hoplab.probe.ways import NoWay

pytestmark = pytest.mark.lab
InSandbox = Callable[[Callable[[], None]], None]

VIP, VIP6 = "198.51.100.10", "2001:db8:100::10"
POD, POD6 = "10.1.1.4", "fd00:1::4"
NODE, NODE6 = "203.0.113.1", "2001:db8::1"
CLIENT, CLIENT6 = "203.0.113.10", "2001:db8::10"

SERVICE = f"""
table inet service {{
    chain services {{
        ip daddr {VIP} tcp dport 80 dnat ip to {POD}:80
        ip daddr {VIP} udp dport 53 dnat ip to {POD}:53
        ip daddr {VIP} icmp type echo-request dnat ip to {POD}
        fib daddr type local tcp dport 30080 dnat ip to {POD}:80
        ip6 daddr {VIP6} tcp dport 80 dnat ip6 to [{POD6}]:80
        ip6 daddr {VIP6} udp dport 53 dnat ip6 to [{POD6}]:53
        ip6 daddr {VIP6} icmpv6 type echo-request dnat ip6 to {POD6}
    }}
    chain prerouting {{ type nat hook prerouting priority -100; jump services; }}
    chain output {{ type nat hook output priority -100; jump services; }}
    chain postrouting {{
        type nat hook postrouting priority 100
        ct status dnat masquerade fully-random
    }}
    chain forward {{
        type filter hook forward priority 0
        tcp dport 81 drop
        tcp dport 82 reject
        udp dport 82 reject
    }}
}}
"""


@dataclass
class Lab:
    zygote: Zygote
    client: Namespace
    node: Namespace
    pod: Namespace
    observer: Any
    prober: Prober

    def serve(self, **options: Any) -> int:
        listeners = (Listener(80), Listener(53, "UDP"))
        config = ServerConfig("web", listeners, node="node1", **options)
        return self.zygote.server("web", self.pod.pid, config.to_mapping(), 2)

    def kernel_protests(self) -> list[str]:
        """RSTs and ICMP errors that anybody's kernel sent because it knew nothing of a probe."""
        found = []
        for frame in self.observer.frames:
            seen = read_frame(frame.data)
            if seen is None or frame.direction != "out":
                continue
            if (seen.kind == "tcp" and seen.flags & RST and seen.window == 0) or seen.kind == "icmp-error":
                found.append(f"{frame.node}: {seen}")
        return found


def link(one: tuple[Netlink, str], other: tuple[Netlink, str], addresses: tuple[list[str], list[str]]) -> None:
    macs = [f"02:00:00:00:{os.urandom(1).hex()}:{number:02x}" for number in (1, 2)]
    one[0].veth(one[1], macs[0], other[1], macs[1], peer=other[0].namespace)
    for (netlink, name), cidrs in zip((one, other), addresses, strict=True):
        for cidr in cidrs:
            netlink.address(name, cidr)
        netlink.up(name)


@contextmanager
def lab(tap: Any, seed: int = 7) -> Iterator[Lab]:
    """client -- node -- pod, IPv4 and IPv6, and a Service on the node that leads to the pod."""
    zygote = Zygote()
    roles: dict[str, Role] = {"client": "client", "node": "node", "pod": "pod"}
    pids = zygote.nodes([NodeSpec(name) for name in roles])
    spaces = {name: Namespace(name, pid, role) for (name, role), pid in zip(roles.items(), pids, strict=True)}
    for space in spaces.values():
        write_sysctls(space, {"net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_dad": 0})
    client, node, pod = (Netlink(space) for space in spaces.values())
    # Linux tells a veth's carrier at once only when its two ends differ in index, else up to a second later
    # (net/core/link_watch.c): have the node's interfaces begin behind those of client and pod.
    node.bridge("spare")
    link((client, "eth0"), (node, "eth0"), ([f"{CLIENT}/24", f"{CLIENT6}/64"], [f"{NODE}/24", f"{NODE6}/64"]))
    link((pod, "eth0"), (node, "pods"), ([f"{POD}/24", f"{POD6}/64"], ["10.1.1.1/24", "fd00:1::1/64"]))
    for netlink, gateway, gateway6 in ((client, NODE, NODE6), (pod, "10.1.1.1", "fd00:1::1")):
        netlink.route("default", via=gateway)
        netlink.route("::/0", via=gateway6)
    write_sysctls(spaces["node"], {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
    node.route(f"{VIP}/32", via=CLIENT)
    node.route(f"{VIP6}/128", via=CLIENT6)
    spaces["node"].run(["nft", "-f", "-"], SERVICE)
    deadline = time.monotonic() + 10
    while any(each.without_link_local() for each in (client, node, pod)):
        assert time.monotonic() < deadline
    observer = tap(list(spaces.values()))
    prober = Prober(observer, spaces, seed)
    yield Lab(zygote, *spaces.values(), observer, prober)
    prober.close()


@pytest.mark.parametrize("sender", ["client", "node"])
@pytest.mark.parametrize(("vip", "pod"), [(VIP, POD), (VIP6, POD6)])
def test_tcp_udp_and_icmp_reach_the_pod_behind_the_service(
    in_sandbox: InSandbox, tap: Any, sender: str, vip: str, pod: str
) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            page = here.prober.send_tcp(sender, vip, 80, path="/x?a=1")
            assert (page.outcome, page.reason, page.complete) == ("accepted", "", True)
            assert (page.pod, page.told["ip"], page.told["path"]) == ("web", pod, "/x")
            assert page.told["token"] == page.token
            assert page.told["headers"]["host"] == (f"[{vip}]" if ":" in vip else vip)
            assert page.rtt_ns > 0
            answer = here.prober.send_udp(sender, vip, 53)
            assert (answer.outcome, answer.pod, answer.told["echo"]) == ("accepted", "web", answer.token)
            echo = here.prober.send_icmp(sender, vip)
            assert (echo.outcome, echo.text) == ("accepted", echo.token)
            assert here.kernel_protests() == []

    in_sandbox(body)


def test_the_pod_sees_the_probes_own_source_when_nothing_masquerades(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            page = here.prober.send_tcp("client", POD, 80, source_port=40123)
            assert page.client == f"{CLIENT}:40123"
            page = here.prober.send_tcp("node", POD, 80, source_port=40124)
            assert page.client == "10.1.1.1:40124"

    in_sandbox(body)


def test_a_nodes_own_probe_of_its_node_port_is_rewritten_like_a_process_own(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            write_sysctls(here.node, {"net.ipv4.conf.all.route_localnet": 1})
            for address in (NODE, "10.1.1.1", "127.0.0.1"):
                page = here.prober.send_tcp("node", address, 30080)
                assert (page.outcome, page.reason, page.complete) == ("accepted", "", True)
                assert page.sent.src == address
                assert page.client.startswith("10.1.1.1:")
            assert here.kernel_protests() == []

    in_sandbox(body)


@pytest.mark.parametrize("sender", ["client", "node"])
def test_closed_ports_reject(in_sandbox: InSandbox, tap: Any, sender: str) -> None:
    def body() -> None:
        with lab(tap) as here:
            refused = here.prober.send_tcp(sender, POD, 99)
            assert (refused.outcome, refused.reason) == ("rejected", f"RST from {POD}:99 in answer to the SYN")
            refused = here.prober.send_udp(sender, POD, 99)
            assert (refused.outcome, refused.reason) == ("rejected", f"ICMP port unreachable from {POD}")

    in_sandbox(body)


def test_drops_and_rejections_on_the_way(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            started = time.monotonic()
            dropped = here.prober.send_tcp("client", POD, 81, deadline_s=0.2)
            assert (dropped.outcome, dropped.reason) == ("unanswered", "no answer to the SYN within 0.2 s")
            assert 0.2 <= time.monotonic() - started < 1.0
            rejected = here.prober.send_tcp("client", POD, 82)
            assert (rejected.outcome, rejected.reason) == ("rejected", f"ICMP port unreachable from {NODE}")
            rejected = here.prober.send_udp("client", POD, 82)
            assert (rejected.outcome, rejected.reason) == ("rejected", f"ICMP port unreachable from {NODE}")

    in_sandbox(body)


def test_an_answer_from_a_wrong_source_is_no_answer(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            here.pod.run(["nft", "-f", "-"], wrong_source_rules(POD, "10.1.1.99"))
            result = here.prober.send_udp("client", POD, 53, deadline_s=0.2)
            assert result.outcome == "unanswered"
            assert result.reason == "no answer within 0.2 s; 10.1.1.99:53 answered, which was not asked"
            result = here.prober.send_tcp("client", POD, 80, deadline_s=0.2)
            assert result.reason == "no answer to the SYN within 0.2 s; 10.1.1.99:80 answered, which was not asked"

    in_sandbox(body)


def test_a_borrowed_address_is_answered_for_and_given_back(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            page = here.prober.send_tcp("client", POD, 80, source_address="203.0.113.130")
            assert page.client.startswith("203.0.113.130:")
            page = here.prober.send_tcp("client", POD6, 80, source_address="2001:DB8::130")
            assert page.client.startswith("[2001:db8::130]:")
            here.prober.close()
            addresses = [address for _, address, _ in Netlink(here.client).addresses()]
            assert "203.0.113.130" not in addresses
            assert "2001:db8::130" not in addresses

    in_sandbox(body)


def test_hundreds_at_once_each_with_its_own_port_and_token(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            results = here.prober.send_many([Probe("client", VIP, 80)] * 300)
            assert [result.outcome for result in results] == ["accepted"] * 300
            assert [result.reason for result in results] == [""] * 300
            assert all(result.complete and result.told["token"] == result.token for result in results)
            assert len({result.sent.sport for result in results}) == 300
            assert len({result.token for result in results}) == 300
            assert here.kernel_protests() == []

    in_sandbox(body)


def test_the_same_source_port_may_ask_several_places_at_once(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            probes = [Probe("client", to, 80, source_port=41000) for to in (POD, VIP)]
            results = here.prober.send_many(probes)
            assert [(r.outcome, r.told["headers"]["host"], r.notes) for r in results] == [
                ("accepted", POD, ()),
                ("accepted", VIP, ()),
            ]

    in_sandbox(body)


def test_the_seed_alone_decides_ports_tokens_and_sequence_numbers(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            spaces = {"client": here.client}

            def drawn(seed: int) -> list[tuple[int, str, int, str]]:
                probes = [Probe("client", POD, 80, deadline_s=0.5), Probe("client", POD, 53, "udp")]
                results = Prober(here.observer, spaces, seed).send_many(probes)
                return [(r.sent.sport, r.token, r.isn, r.name) for r in results]

            assert drawn(1) == drawn(1)
            assert drawn(1) != drawn(2)

    in_sandbox(body)


def test_a_large_request_meets_a_smaller_mtu_and_is_cut_anew(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            here.node.run(["ip", "route", "add", f"{POD}/32", "dev", "pods", "mtu", "1400"])
            page = here.prober.send_tcp("client", POD, 80, size=4000)
            assert page.complete
            assert len(page.told["body"]) > 3000
            assert page.notes == (f"ICMP fragmentation needed (MTU 1400) from {NODE}",)

    in_sandbox(body)


def test_a_half_open_probe_and_one_with_bytes_of_its_own(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            result = here.prober.send_tcp("client", POD, 80, half_open=True)
            assert (result.outcome, result.complete, result.response) == ("accepted", True, b"")
            result = here.prober.send_tcp("client", POD, 80, payload=b"\x00hello")
            assert (result.complete, result.response) == (True, b"\x00hello")

    in_sandbox(body)


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("silent", "unanswered", "connected, but no answer to the request within 0.3 s"),
        ("close", "rejected", None),
        ("reset", "rejected", f"{POD}:80 reset the connection before it had answered"),
    ],
)
def test_faulty_pods(in_sandbox: InSandbox, tap: Any, fault: str, outcome: str, reason: str | None) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve(fault=fault)
            result = here.prober.send_tcp("client", POD, 80, deadline_s=0.3)
            if fault == "close":
                # Whether the request arrives before the close decides between an RST and a bare FIN.
                assert result.outcome in ("rejected", "unanswered")
            else:
                assert (result.outcome, result.reason) == (outcome, reason)

    in_sandbox(body)


@pytest.mark.parametrize("role", ["host", "node"])
def test_a_shield_lets_forwarded_probes_pass(in_sandbox: InSandbox, tap: Any, role: Role) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            here.node.run(["nft", "-f", "-"], shield_text(role))
            assert here.prober.send_tcp("client", POD, 80).complete
            assert here.prober.send_udp("client", POD, 53).complete
            assert here.prober.send_tcp("client", POD, 82).outcome == "rejected"

    in_sandbox(body)


def test_what_cannot_be_sent_says_why(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            send = here.prober.send_tcp
            with pytest.raises(ProbeRefused, match="no namespace is called 'nobody'; there are: client, node, pod"):
                send("nobody", POD, 80)
            with pytest.raises(ProbeRefused, match="source port 80 is not between 40000 and 49999"):
                send("client", POD, 80, source_port=80)
            with pytest.raises(ProbeRefused, match=r"'10\.1\.1' is no IP address"):
                send("client", "10.1.1", 80)
            with pytest.raises(ProbeRefused, match="of different families"):
                send("client", POD, 80, source_address="fd00::1")
            with pytest.raises(NoWay, match="an address of its own"):
                send("client", CLIENT, 80)
            with pytest.raises(NoWay, match=r"client can't use 10\.1\.1\.4 as next hop"):
                send("client", VIP, 80, next_hop=POD)
            with pytest.raises(NoWay, match=r"nobody on eth0 answered for 203\.0\.113\.77 within 1.0 s"):
                send("client", "203.0.113.77", 80)
            here.node.run(["ip", "route", "add", "unreachable", "192.0.2.0/24"])
            with pytest.raises(NoWay, match=r"node has no route to 192\.0\.2\.1: No route to host"):
                send("node", "192.0.2.1", 80)

    in_sandbox(body)


def test_a_chosen_next_hop_is_used(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            Netlink(here.client).route("default", via="203.0.113.99")
            assert here.prober.send_tcp("client", POD, 80, next_hop=NODE).complete

    in_sandbox(body)


def test_ports_can_be_spread(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            results = here.prober.send_many(spread(Probe("client", POD, 80), range(40000, 40064)))
            assert [result.client for result in results] == [f"{CLIENT}:{port}" for port in range(40000, 40064)]

    in_sandbox(body)


def test_kernel_clients_keep_connections_alive(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            here.serve()
            clients = Clients(here.observer)
            one = clients.get(here.client, VIP, 80, "/hostname")
            assert one.response is not None
            assert (one.response.status, one.response.text) == (200, "web")
            connections = [clients.connect(here.client, POD, 80, source=("", 51000 + n)) for n in range(50)]
            seen = set()
            for _round in range(3):
                requests = [connection.request("/clientip") for connection in connections]
                assert clients.wait(requests, 2.0)
                seen |= {request.response.text for request in requests if request.response}
            assert seen == {f"{CLIENT}:{51000 + n}" for n in range(50)}
            assert connections[0].sent.sport == 51000
            big = connections[0].request("/bytes/300000")
            clients.wait([big], 2.0)
            assert big.response is not None
            assert len(big.response.body) == 300000
            clients.close()

    in_sandbox(body)


def test_kernel_clients_tell_what_failed(in_sandbox: InSandbox, tap: Any) -> None:
    def body() -> None:
        with lab(tap) as here:
            pid = here.serve(fault="silent")
            clients = Clients(here.observer)
            with pytest.raises(ProbeRefused, match="source port 40000 belongs to crafted probes"):
                clients.connect(here.client, POD, 80, source=("", 40000))
            assert clients.get(here.client, POD, 99).error == "Connection refused"
            assert clients.get(here.client, POD, 80, deadline_s=0.1).error == "no answer within 0.1 s"
            connection = clients.connect(here.client, POD, 80)
            waiting = connection.request("/")
            clients.wait([waiting], 0.05)
            os.kill(pid, 9)
            lost = clients.connect(here.client, POD, 80)
            assert clients.wait([lost.request("/")], 1.0)
            assert lost.error in ("Connection refused", "Connection reset by peer", "closed by the server")
            Netlink(here.client).remove_route("default")
            assert clients.get(here.client, "192.0.2.1", 80).error == "Network is unreachable"

    in_sandbox(body)
