"""The main faults once more, to flows of IPv6: the same causes, by that family's counters, neighbours and errors."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from hoplab.kube.types import Node
from hoplab.net.netlink import write_sysctls
from hoplab.scenario.faults import Where
from tests.lab.reasons.faultlab import in_lab

pytestmark = pytest.mark.lab

NODES = (
    Node("node1", ("10.240.0.11", "fd00:10:240::11"), pod_cidrs=("10.1.1.0/24", "fd00:10:1:1::/64")),
    Node("node2", ("10.240.0.12", "fd00:10:240::12"), pod_cidrs=("10.1.2.0/24", "fd00:10:1:2::/64")),
)


def six(lab, pod):
    return next(address for address in lab.pod(pod).ips if ":" in address)


@contextmanager
def forwarding_off(lab, where):
    node = lab.node(where.far).namespace
    write_sysctls(node, {"net.ipv6.conf.all.forwarding": 0})
    yield {}
    write_sysctls(node, {"net.ipv6.conf.all.forwarding": 1})


@contextmanager
def dropped(lab, where):
    node = lab.node(where.near).namespace
    node.run(["ip6tables", "-I", "FORWARD", "-p", "tcp", "-j", "DROP"])
    yield {}
    node.run(["ip6tables", "-D", "FORWARD", "-p", "tcp", "-j", "DROP"])


@contextmanager
def policy(lab, where):
    node = lab.node(where.near).namespace
    node.run(["ip6tables", "-P", "FORWARD", "DROP"])
    yield {}
    node.run(["ip6tables", "-P", "FORWARD", "ACCEPT"])


@contextmanager
def nobody(lab, where):
    yield {"to": "fd00:10:1:2::fe", "deadline_s": 5.0}


@contextmanager
def no_way_back(lab, where):
    with default_route(lab, where.pod, ""):
        yield {}


@contextmanager
def asker_without_route(lab, where):
    with default_route(lab, where.asker, ""):
        yield {}


@contextmanager
def gateway_of_nobody(lab, where):
    with default_route(lab, where.asker, "fd00:10:1:1::77"):
        yield {}


@contextmanager
def default_route(lab, pod, via):
    inside = lab.pod(pod).namespace
    before = inside.run(["ip", "-6", "route", "show", "default"]).stdout.split()
    inside.run(["ip", "-6", "route", "del", "default"])
    if via:
        inside.run(["ip", "-6", "route", "add", "default", "via", via, "dev", "eth0"])
    yield
    inside.run(["ip", "-6", "route", "replace", "default", "via", before[before.index("via") + 1], "dev", "eth0"])


@contextmanager
def too_large(lab, where):
    node = lab.node(where.near)
    node.machine.netlink.set_link("eth0", mtu=1400)
    drop = ["-p", "icmpv6", "--icmpv6-type", "packet-too-big", "-j", "DROP"]
    node.namespace.run(["ip6tables", "-I", "OUTPUT", *drop])
    yield {"size": 4000, "retries": 1, "deadline_s": 0.8}
    node.namespace.run(["ip6tables", "-D", "OUTPUT", *drop])
    node.machine.netlink.set_link("eth0", mtu=1500)


@contextmanager
def closed(lab, where):
    yield {"port": 81}


@contextmanager
def too_old(lab, where):
    yield {"ttl": 2}


FAULTS = (
    (forwarding_off, "forwarding-off", "node2", "net.ipv6.conf.all.forwarding"),
    (dropped, "rule", "node1", "ip6 filter FORWARD"),
    (policy, "policy", "node1", "FORWARD"),
    (nobody, "no-arp-answer", "node2", "fd00:10:1:2::fe"),
    (no_way_back, "no-route", "pod/shop-1", ""),
    (asker_without_route, "no-route", "pod/guest", ""),
    (gateway_of_nobody, "wrong-gateway", "pod/guest", "fd00:10:1:1::77"),
    (too_large, "mtu", "node1", "eth0"),
    (closed, "port-closed", "pod/shop-1", ":81"),
    (too_old, "ttl", "node2", ""),
)


def test_each_fault_is_named_for_ipv6(tmp_path):
    where = Where()

    def play(lab):
        def send(to="", port=80, **options):
            with lab.beyond_the_model():
                asker = lab.host(f"pod/{where.asker}")
                return asker.send_tcp(to or six(lab, where.pod), port, **{"deadline_s": 0.4, **options})

        wrong = []
        for fault, cause, node, about in FAULTS:
            with fault(lab, where) as options:
                sent = send(**options)
            told = [(r.cause, r.node, r.decided, about in r.object, bool(r.evidence)) for r in sent.reasons]
            if told != [(cause, node, True, True, True)]:
                wrong.append(f"{fault.__name__}: {sent.flow.outcome} {sent.flow.reason} {sent.reasons}")
            if any("`ip route" in r.next_step or "`iptables" in r.next_step for r in sent.reasons):
                wrong.append(f"{fault.__name__}: a tool of IPv4: {sent.reasons}")
        after = send()
        return wrong, after.flow.outcome, after.reasons

    networks = {"service_cidrs": ("10.0.0.0/16", "fd00:10:96::/108"), "way_out": "routes"}
    wrong, outcome, reasons = in_lab(where, tmp_path, play, given_nodes=NODES, **networks)
    assert wrong == []
    assert (outcome, reasons) == ("accepted", ())
