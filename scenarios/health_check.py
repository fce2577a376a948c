"""A node falls silent: until the next health check its share of the flows is lost, afterwards they meet the others.

The balancer asks each node over the network (kube-proxy's /healthz on port 10256) and
gives new flows only to those that answered.  A node that dies takes its flows with it
until the balancer has noticed: those that it was handed, and those that other nodes send
to its pod, for endpoints are another matter.  Then no new flow is handed to it; when it is
back and has been asked, it gets flows again.

Try next: `--nodes 5`, `--balancer round-robin`.
"""

import re
import time
from collections import Counter

from hoplab.scenario.lab import entry_node

TOPOLOGY = "cloud"
MANIFESTS = ["health.yaml"]
NODES = 3
LEAST_NODES = 2
WITHOUT = {
    "--balancer-mode proxy": "it counts flows by the node that they were handed to, and a proxy's connection to a"
    " silent node carries nothing that tells whose it is",
}
FLOWS_PER_NODE = 16
"""Hashed flows leave one of n nodes out with a probability of n * (1 - 1/n)^(16n): about n in ten million."""
PATIENCE = 20
DEAD = "node2"
DEAD_PODS = re.compile(r"10\.1\.2\.")


def run(lab):
    """All alive; one dead and unnoticed; noticed; back."""
    client, service = lab.host("client"), lab.service("web")
    well = client.send_tcp(service, name="a flow while all are well")
    well.expect_complete(name="while all are well a whole exchange passes")
    alive = Counted(client.send_many(service, enough(lab), half_open=True))
    lab.check(
        "while all are well every flow is answered, by every node",
        not alive.lost and set(alive.entered) == set(lab.cluster.nodes),
        f"{enough(lab)} answers",
        alive.words,
    )
    uplink(lab, up=False)
    unnoticed(lab, client, service)
    noticed(lab, client, service)
    uplink(lab, up=True)
    back(lab, client, service)


def handed_to(flow):
    """The node that the balancer handed a flow to: who took it, or the dead one when it left and nobody did."""
    last = flow.last
    if last is not None and last.node == "lb" and last.out_interface is not None:
        return DEAD
    return entry_node(flow.flow)


def enough(lab):
    """How many flows meet every node."""
    return FLOWS_PER_NODE * len(lab.cluster.nodes)


class Counted:
    """Flows by the node that the balancer handed them to, and those of them that nobody answered."""

    def __init__(self, sent):
        self.entered = Counter(map(handed_to, sent))
        lost = [flow for flow in sent if flow.flow.outcome != "accepted"]
        self.lost = Counter(map(handed_to, lost))
        self.by_pod = [flow for flow in lost if handed_to(flow) != DEAD]
        parts = [f"{name or 'nobody'}: {n}, lost {self.lost[name]}" for name, n in sorted(self.entered.items())]
        self.words = "; ".join(parts)


def uplink(lab, up):
    """The node's cable: nothing of it is heard, and nothing reaches it.  Its routes go with the link."""
    machine = lab.node(DEAD).machine
    machine.netlink.up("eth0", up)
    if up:
        machine.setDefaultRoute(machine.params["defaultRoute"])
        for other in lab.cluster.nodes.values():
            for cidr in other.node.pod_cidrs if other.name != DEAD else ():
                machine.netlink.route(cidr, via=other.node.addresses[0])


def unnoticed(lab, client, service):
    """Before the balancer asks again."""
    with lab.beyond_the_model():  # A cable that is pulled is in no rule and no route of the others.
        now = Counted(client.send_many(service, enough(lab), half_open=True, deadline_s=0.3))
    lab.check(
        "unnoticed, every flow that is handed to the dead node is lost",
        now.entered[DEAD] == now.lost[DEAD] > 0,
        f"as many lost as were handed to {DEAD}",
        now.words,
    )
    to_its_pod = [flow for flow in now.by_pod if flow.last and DEAD_PODS.match(flow.last.after.dst)]
    lab.check(
        "of the others only those are lost that were for its pod",
        len(to_its_pod) == len(now.by_pod) and now.lost.total() < enough(lab),
        "every other lost flow was on its way to a pod of the dead node",
        f"{len(now.by_pod)} more lost, {len(to_its_pod)} of them for its pod",
    )


def noticed(lab, client, service):
    """After it asked."""
    started = time.monotonic()
    lab.check_health()
    took = time.monotonic() - started
    detail = {finding.target.node: finding for finding in lab.cluster.balancer.findings}
    lab.check(
        "the next health check finds the dead node, and no other",
        not detail[DEAD].healthy and all(f.healthy for name, f in detail.items() if name != DEAD),
        f"{DEAD} does not answer, the others do",
        f"{'; '.join(f'{name}: {finding.detail}' for name, finding in detail.items())} (it took {took:.1f} s)",
    )
    with lab.beyond_the_model():
        now = Counted(client.send_many(service, enough(lab), half_open=True, deadline_s=0.3))
    lab.check(
        "from then on no flow is handed to it",
        not now.entered[DEAD] and not now.entered[""],
        "every flow enters by another node",
        now.words,
    )


def back(lab, client, service):
    """Alive again, asked again; the balancer may have to find its hardware address first."""
    asked = 0
    while asked < PATIENCE:
        asked += 1
        lab.check_health()
        if all(finding.healthy for finding in lab.cluster.balancer.findings):
            break
    now = Counted(client.send_many(service, enough(lab), half_open=True))
    lab.check(
        "back and asked, it gets flows again and none is lost",
        not now.lost and set(now.entered) == set(lab.cluster.nodes),
        f"{enough(lab)} answers, by every node",
        f"{now.words} (found well when asked for the {asked}. time)",
    )
