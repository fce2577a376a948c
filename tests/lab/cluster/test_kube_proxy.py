"""kube-proxy in a real kernel: what many changes leave in the rules, and what becomes of known UDP connections."""

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, Node, ObjectMeta, Service, ServicePort
from tests.lab.scenario.labrun import in_sandbox
from tests.unit.dataplane.nft_kernel import loaded, parsed

pytestmark = pytest.mark.lab

ADDRESSES = {
    "IPv4": ("10.240.0.11", "10.96.0.53", ("10.1.1.4", "10.1.1.5")),
    "IPv6": ("fd00:240::11", "fd00:96::53", ("fd00:1::4", "fd00:1::5")),
}
"""The node's, the Service's, the pods'."""


def kube_proxy(node, mode):
    import os

    from hoplab.cluster.proxy import KubeProxy
    from hoplab.dataplane.config import ProxyConfig
    from hoplab.net.namespaces import Namespace

    return KubeProxy(Namespace("node1", os.getpid()), node, ProxyConfig(mode=mode))


def dns(family, *addresses):
    _node, cluster_ip, _pods = ADDRESSES[family]
    service = Service(ObjectMeta("dns"), cluster_ips=(cluster_ip,), ports=(ServicePort(53, "UDP"),))
    endpoints = tuple(Endpoint((address,), node_name="node1") for address in addresses)
    return [service], [EndpointSlice(ObjectMeta("dns-1"), "dns", family, endpoints, (EndpointPort(53, "UDP"),))]


def sync(proxy, services, slices):
    proxy.start_sync(services, slices)
    proxy.finish_sync()


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_udp_client_follows_the_service_to_another_endpoint(family, mode):
    """All of it on one machine: the pods are addresses of the loopback, the client keeps its source port."""
    node, cluster_ip, pods = ADDRESSES[family]
    number = socket.AF_INET6 if family == "IPv6" else socket.AF_INET

    def serve(address):
        server = socket.socket(number, socket.SOCK_DGRAM)
        server.bind((address, 53))

        def answer():
            while True:
                _asked, client = server.recvfrom(100)
                server.sendto(address.encode(), client)

        threading.Thread(target=answer, daemon=True).start()

    def inside():
        whole = 128 if family == "IPv6" else 32
        ip("link", "set", "lo", "up")
        for address in (node, *pods):
            # Without a look for duplicates, which would keep an IPv6 address from being bound to at once.
            ip("address", "add", f"{address}/{whole}", "dev", "lo", *(["nodad"] if family == "IPv6" else []))
        ip("route", "add", f"{cluster_ip}/{whole}", "dev", "lo")
        for pod in pods:
            serve(pod)
        client = socket.socket(number, socket.SOCK_DGRAM)
        client.settimeout(2)
        client.bind((node, 40053))

        def asked():
            client.sendto(b"who", (cluster_ip, 53))
            return client.recv(100).decode()

        proxy = kube_proxy(Node("node1", (node,)), mode)
        sync(proxy, *dns(family, pods[0]))
        answers = [asked()]
        proxy.removes_stale_entries = False
        sync(proxy, *dns(family, pods[1]))
        answers.append(asked())
        proxy.removes_stale_entries = True
        sync(proxy, *dns(family, pods[0]))
        sync(proxy, *dns(family, pods[1]))
        answers.append(asked())
        return answers

    # Without the removal the old entry wins; with it the rules are asked again.
    assert in_sandbox(inside) == [pods[0], pods[0], pods[1]]


def test_a_large_table_is_changed_without_being_read_and_tidied_later():
    """With the limits lowered: three chains at most wait to be deleted, and no rule differs from the whole text's."""

    def inside():
        from hoplab.cluster import proxy as module
        from hoplab.dataplane import nftables

        module.MANY_CHAINS, module.MANY_LEFT = 0, 3
        proxy = kube_proxy(Node("node1", ("10.240.0.11",)), "nftables")
        left, texts = [], []
        for number in range(8):
            # Another endpoint each time, none at last.
            addresses = [f"10.1.1.{number + 10}", "10.1.1.5"] if number < 7 else []
            services, slices = dns("IPv4", *addresses)
            proxy.start_sync(services, slices)
            texts += [one.text for one in proxy._loading]
            proxy.finish_sync()
            listing = subprocess.run(
                ["nft", "--json", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True
            )
            held = parsed(listing.stdout)
            wanted = loaded(nftables.build(services, slices, proxy.node, proxy.config, "IPv4").text())
            extra = {name: held.pop(name) for name in set(held) - set(wanted)}
            assert held == wanted
            assert all(len(chain) == 1 for chain in extra.values()), extra
            left.append(len(extra))
        return left, texts

    left, texts = in_sandbox(inside)
    assert left == [0, 1, 2, 0, 1, 2, 0, 0]
    assert ["add rule" in text for text in texts] == [True] + [False] * 7
    assert "delete element" in texts[-1]


def test_an_endpoint_that_comes_back_is_not_deleted():
    def inside():
        from hoplab.cluster import proxy as module

        module.MANY_CHAINS, module.MANY_LEFT = 0, 3
        proxy = kube_proxy(Node("node1", ("10.240.0.11",)), "nftables")
        first, other = dns("IPv4", "10.1.1.4", "10.1.1.5"), dns("IPv4", "10.1.1.5")
        for services, slices in [first, other] * 6 + [first]:
            sync(proxy, services, slices)
        listing = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        return listing.count("dnat to")

    assert in_sandbox(inside) == 2


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_chain_that_is_no_more_is_still_told_by_its_object_and_a_shared_one_by_none(mode):
    """A flow's story may be told after the Service that it met was deleted."""

    def inside():
        proxy = kube_proxy(Node("node1", ("10.240.0.11",)), mode)
        services, slices = dns("IPv4", "10.1.1.4")
        other = Service(ObjectMeta("web"), cluster_ips=("10.96.0.80",), ports=(ServicePort(80),))
        sync(proxy, [*services, other], slices)
        before = proxy.object_of()
        sync(proxy, [other], [])
        after = proxy.object_of()
        proxy.forget()
        return before, after, proxy.object_of()

    before, after, forgotten = in_sandbox(inside)
    assert any("default/dns" in about for about in before.values())
    assert {name: about for name, about in after.items() if name in before} == before
    assert forgotten == after
    shared = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "services", "nat-prerouting"}
    assert not shared & after.keys()


def test_a_change_is_held_back_for_the_minimum_sync_period():
    def inside():
        import os

        from hoplab.cluster.proxy import KubeProxy
        from hoplab.dataplane.config import ProxyConfig
        from hoplab.net.namespaces import Namespace

        config = ProxyConfig(min_sync_period_s=0.3)
        proxy = KubeProxy(Namespace("node1", os.getpid()), Node("node1", ("10.240.0.11",)), config)
        told = []
        for address in ("10.1.1.4", "10.1.1.4", "10.1.1.5"):
            told.append((proxy.start_sync(*dns("IPv4", address)), proxy.due_in() is not None))
            proxy.finish_sync()
        due = proxy.due_in()
        threading.Event().wait(due)
        told.append((proxy.start_sync(*dns("IPv4", "10.1.1.6")), proxy.due_in() is not None))
        proxy.finish_sync()
        rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True).stdout
        return told, due, "10.1.1.6:53" in rules, "10.1.1.5:53" in rules

    told, due, last, between = in_sandbox(inside)
    assert told == [(True, False), (False, False), (False, True), (True, False)]
    assert 0 < due <= 0.3
    assert (last, between) == (True, False)


def test_a_node_takes_the_settings_of_connection_tracking():
    def inside():
        import os

        from hoplab.dataplane.config import Conntrack, ProxyConfig
        from hoplab.net.namespaces import Namespace
        from hoplab.net.netlink import write_sysctls

        wanted = ProxyConfig(conntrack=Conntrack(7200, 60, 45, 90, tcp_be_liberal=True)).sysctls()
        write_sysctls(Namespace("node1", os.getpid()), wanted)
        return wanted, {key: int(Path("/proc/sys", key.replace(".", "/")).read_text()) for key in wanted}

    wanted, found = in_sandbox(inside)
    assert found == wanted
    assert len(found) == 6
