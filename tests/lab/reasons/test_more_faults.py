"""Faults beside the course's: what routes, neighbour tables and rules do without a word."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from hoplab.scenario.faults import Where
from tests.lab.reasons.faultlab import in_lab

pytestmark = pytest.mark.lab


@contextmanager
def changed(namespace, put, take):
    namespace.run(put)
    yield
    namespace.run(take)


def refusing_route(lab, where, kind):
    [route] = [one for one in lab.node(where.near).machine.netlink.routes() if one.destination == "10.1.2.0/24"]
    put = ["ip", "route", "replace", kind, "10.1.2.0/24"]
    take = ["sh", "-c", f"ip route del {kind} 10.1.2.0/24 && ip route replace 10.1.2.0/24 via {route.via}"]
    return changed(lab.node(where.near).namespace, put, take)


def swallowed(lab, where):
    return refusing_route(lab, where, "blackhole")


def prohibited(lab, where):
    return refusing_route(lab, where, "prohibit")


def wrong_neighbour(lab, where):
    far = lab.node(where.far).node.addresses[0]
    entry = [far, "lladdr", "02:de:ad:00:00:01", "dev", "eth0", "nud", "permanent"]
    take = ["ip", "neighbour", "del", far, "dev", "eth0"]
    return changed(lab.node(where.near).namespace, ["ip", "neighbour", "replace", *entry], take)


def untracked(lab, where):
    rule = ["PREROUTING", "-p", "tcp", "--dport", "30000:32767", "-j", "NOTRACK"]
    put, take = (["iptables", "-t", "raw", word, *rule] for word in ("-I", "-D"))
    return changed(lab.node(where.near).namespace, put, take)


def dropped_behind_the_bridge(lab, where):
    """From pod to pod of one node: the packet is given to the bridge before FORWARD drops it."""
    put, take = (["iptables", word, "FORWARD", "-j", "DROP"] for word in ("-I", "-D"))
    return changed(lab.node(where.near).namespace, put, take)


FAULTS = (
    (swallowed, "service", "no-route", "node1", "swallows"),
    (prohibited, "service", "no-route", "node1", "prohibits"),
    (wrong_neighbour, "service", "wrong-neighbour", "node1", "02:de:ad:00:00:01"),
    (untracked, "node port", "rule", "node1", "out of connection tracking"),
    (dropped_behind_the_bridge, "neighbour", "rule", "node1", "drops"),
)


def test_each_is_named(tmp_path):
    where = Where()

    def play(lab):
        def send(to):
            with lab.beyond_the_model():
                if to == "node port":
                    port = lab.service(where.service).node_port
                    return lab.host("client").send_tcp(lab.node(where.near), port, deadline_s=0.4)
                service = lab.service(where.own if to == "neighbour" else where.service).at_cluster_ip()
                return lab.host(f"pod/{where.asker}").send_tcp(service, deadline_s=0.4)

        wrong = []
        for fault, to, cause, node, words in FAULTS:
            with fault(lab, where):
                sent = send(to)
            told = [(r.cause, r.node, r.decided, words in r.words) for r in sent.reasons]
            if told != [(cause, node, True, True)]:
                wrong.append(f"{fault.__name__}: {sent.flow.outcome} {sent.flow.reason} {sent.reasons}")
            after = send(to)
            if after.flow.outcome != "accepted" or after.reasons:
                wrong.append(f"after {fault.__name__}: {after.flow.outcome} {after.flow.reason} {after.reasons}")
        return wrong

    assert in_lab(where, tmp_path, play) == []
