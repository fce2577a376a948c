"""What a sender's own kernel has no way for: told as a flow with its reason, and never sent by a way of before."""

from __future__ import annotations

import json

import pytest

from hoplab.scenario.faults import Where
from tests.lab.reasons.faultlab import in_lab

pytestmark = pytest.mark.lab


def test_a_pod_that_cannot_send_is_told_why_and_can_again_when_it_is_repaired(tmp_path):
    where = Where()

    def play(lab):
        inside = lab.pod(where.asker).namespace
        [before] = json.loads(inside.run(["ip", "-j", "route", "show", "default"]).stdout)
        told = {}

        def send(name):
            with lab.beyond_the_model():
                to = lab.service(where.service).at_cluster_ip()
                sent = lab.host(f"pod/{where.asker}").send_tcp(to)
            reasons = [
                (r.cause, r.node, r.object, r.decided, bool(r.evidence), bool(r.next_step)) for r in sent.reasons
            ]
            told[name] = (sent.flow.outcome, sent.flow.reason.partition(":")[0], reasons)

        def by(gateway):
            inside.run(["ip", "route", "replace", "default", "via", gateway])

        send("well")
        inside.run(["ip", "route", "del", "default"])
        send("no route")
        by("10.1.1.77")
        send("nobody is the gateway")
        with lab.beyond_the_model():
            plain, tried = lab.prober.why_not, []
            lab.prober.why_not = lambda probe: tried.append(probe) or plain(probe)
            many = lab.host(f"pod/{where.asker}").send_many("10.1.1.78", 12, port=80)
            del lab.prober.why_not
        by(before["gateway"])
        send("repaired")
        inside.run(["ip", "link", "set", "eth0", "down"])
        send("unplugged")
        in_vain = lab.host(f"pod/{where.asker}").send_icmp("10.1.2.1").expect_outcome("unanswered")
        inside.run(["ip", "link", "set", "eth0", "up"])
        by(before["gateway"])
        send("plugged in again")
        return told, in_vain, lab.service(where.service).cluster_ip, [one.flow.reason for one in many], len(tried)

    told, in_vain, address, many, tried = in_lab(where, tmp_path, play)
    asker = f"pod/{where.asker}"
    for name in ("well", "repaired", "plugged in again"):
        assert told[name] == ("accepted", "", []), name
    for name, cause, about in (
        ("no route", "no-route", address),
        ("nobody is the gateway", "wrong-gateway", "gateway 10.1.1.77"),
        ("unplugged", "link-down", f"interface eth0 of {asker}"),
    ):
        assert told[name] == ("unanswered", "not sent", [(cause, asker, about, True, True, True)]), name
    # That nobody answers is found out once for all of them.
    assert many == [f"not sent: {asker}: nobody on eth0 answered for 10.1.1.78 within 1.0 s"] * 12
    assert tried == 1
    # Silence is what an answer was waited for in; nobody waited here.
    assert not in_vain.passed
    assert "no frame shows" in in_vain.observed


def test_a_burst_without_a_route_says_why_most_of_it_hears_nothing(tmp_path):
    where = Where()

    def play(lab):
        machine = lab.node(where.near).machine
        [entry] = [one for one in machine.netlink.routes() if one.destination == "10.1.2.0/24"]
        machine.netlink.remove_route("10.1.2.0/24")
        with lab.beyond_the_model():
            port = lab.service(where.service).node_port
            sent = lab.host("client").send_many(lab.node(where.near), 24, port=port, deadline_s=0.3)
        machine.netlink.route("10.1.2.0/24", via=entry.via)
        return [(one.flow.name, one.flow.outcome, one.reasons) for one in sent]

    flows = in_lab(where, tmp_path, play)
    assert len({name for name, _outcome, _reasons in flows}) == 24
    assert {(r.cause, r.node) for _name, _outcome, reasons in flows for r in reasons} == {("no-route", where.near)}
    silent = [reasons[0] for _name, outcome, reasons in flows if outcome == "unanswered"]
    refused = [reasons[0] for _name, outcome, reasons in flows if outcome == "rejected"]
    assert silent
    assert refused
    assert all(any("no ICMP error about it left router" in line for line in reason.evidence) for reason in silent)
    assert all(any("ICMP network unreachable" in line for line in reason.evidence) for reason in refused)
