"""sessionAffinity ClientIP: one client meets one pod, and what a node remembers no other node knows.

The node that picks an endpoint writes the client's address down (a `recent` list in
iptables mode, a set with timeouts in nftables mode); the next flow from that address goes
to the same pod for as long as the entry lives, timeoutSeconds since the last one.  Another
client throws its own dice.  Two nodes remember for themselves: a client whom the balancer
sends now here, now there may meet two pods.  And clients behind one address are one client.

Try next: `--proxy-mode nftables`, `--balancer round-robin`, and `--balancer-mode proxy`, whose
balancer hides its clients: then all of them are one.
"""

import time
from collections import Counter

from hoplab.scenario.lab import entry_node

MANIFESTS = ["affinity.yaml"]
FLOWS = 24
TIMEOUT_S = 1
"""timeoutSeconds of the Service brief."""
CLIENTS = 40
"""Fair dice leave one of three pods out with a probability of 3 * (2/3)^40: once in four million runs."""
DICE = 60
"""Flows without affinity."""


def run(lab):
    """One client, many clients, no affinity, several nodes."""
    client = lab.host("client")
    one_client(lab, client)
    many_clients(lab, client)
    the_timeout(lab, client)
    without(lab)
    by_the_balancer(lab, client)


def pods_of(sent):
    """How often each pod answered."""
    return Counter(flow.nodes[-1] for flow in sent if flow.flow.outcome == "accepted")


def words(counts):
    """Counts as text."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "no answer"


def one_client(lab, client):
    """The same address again and again."""
    sent = client.send_many(lab.node("node1"), FLOWS, port=30090, half_open=True)
    counts = pods_of(sent)
    lab.check(
        f"{FLOWS} flows of one client through node1 meet one pod",
        len(counts) == 1 and counts.total() == FLOWS,
        f"{FLOWS} flows, one pod",
        words(counts),
        [f"the first one: {' -> '.join(sent[0].nodes)}"],
    )
    known = [remembered(lab, flow) for flow in sent]
    lab.check(
        "the first flow throws the dice, every other one is remembered",
        not known[0] and all(known[1:]),
        "a rule that looks the client up is met by every flow but the first",
        f"first: {len(known[0])}, others: {sum(map(bool, known[1:]))} of {FLOWS - 1}",
        [f"{hit.chain}: {hit.rule}" for hit in known[-1]],
    )


def remembered(lab, sent):
    """The rules that found the client in a list: none where the flow threw the dice."""
    rule = "--rcheck" if lab.cluster.options.proxy.mode == "iptables" else "saddr @affinity"
    return [hit for hop in sent.flow.forward for hit in hop.rules if rule in hit.rule]


def the_timeout(lab, client):
    """timeoutSeconds: 1, counted from a client's last flow."""
    first, again = client.send_many(lab.node("node1"), 2, port=30091, half_open=True)
    end = time.monotonic() + TIMEOUT_S + 0.2
    while (left := end - time.monotonic()) > 0:
        lab.observer.poll(left)
    later = client.send_many(lab.node("node1"), 1, port=30091, half_open=True)[0]
    known = [bool(remembered(lab, flow)) for flow in (first, again, later)]
    lab.check(
        "after timeoutSeconds without a flow the client is forgotten, and throws the dice again",
        known == [False, True, False] and later.flow.outcome == "accepted",
        f"the second flow is remembered, one that comes more than {TIMEOUT_S} s later is not",
        f"first: {known[0]}, at once: {known[1]}, later: {known[2]} ({later.flow.outcome})",
        [f"{hit.chain}: {hit.rule}" for hit in remembered(lab, again)],
    )


def many_clients(lab, client):
    """Other addresses throw their own dice."""
    counts = Counter()
    kept = True
    for number in range(CLIENTS):
        address = f"203.0.113.{100 + number}"
        twice = [
            client.send_tcp(lab.node("node1"), 30090, source_address=address, half_open=True, name=f"{address} #{n}")
            for n in (1, 2)
        ]
        met = pods_of(twice)
        kept = kept and len(met) == 1 and met.total() == 2
        counts += Counter(met.keys())
    lab.check(
        f"each of {CLIENTS} other clients meets one pod twice",
        kept,
        "both flows of a client go to the same pod",
        words(counts),
    )
    lab.check(
        "not all of them the same pod",
        len(counts) == 3,
        "each of the three pods has clients",
        words(counts),
    )


def without(lab):
    """The same pods without affinity."""
    sent = lab.host("node1").send_many(lab.service("forgetful").at_cluster_ip(), DICE, half_open=True)
    counts = pods_of(sent)
    lab.check(
        f"without affinity {DICE} flows of one client meet every pod",
        len(counts) == 3,
        "all three pods",
        words(counts),
    )


def by_the_balancer(lab, client):
    """Through the balancer each node remembers for itself; and one that hides its clients makes them one."""
    if lab.cluster.options.mode == "proxy":
        hidden_clients(lab, client)
        return
    sent = client.send_many(lab.service("cart"), FLOWS, half_open=True)
    by_node = {}
    for flow in sent:
        by_node.setdefault(entry_node(flow.flow), set()).update(flow.nodes[-1:] or ["nobody"])
    lab.check(
        "through the balancer a client meets one pod for each node that it enters by",
        all(len(pods) == 1 for pods in by_node.values()) and set(by_node) <= set(lab.cluster.nodes) and bool(by_node),
        "one pod for each node",
        "; ".join(f"{node or 'nowhere'}: {', '.join(sorted(pods))}" for node, pods in sorted(by_node.items())),
    )


def hidden_clients(lab, client):
    """A balancer that ends connections is every node's one client."""
    by_node, sources = {}, Counter()
    for number in range(CLIENTS):
        flow = client.send_tcp(lab.service("cart"), source_address=f"203.0.113.{100 + number}", name=f"client {number}")
        inside = flow.leg(2)
        by_node.setdefault(entry_node(flow.flow), set()).add(inside.nodes[-1] if inside.nodes else "nobody")
        sources[inside.flow.forward[0].before.src if inside.flow.forward else "nobody"] += 1
    lab.check(
        f"behind a balancer that hides them {CLIENTS} clients are one: each node sends all of them to one pod",
        all(len(pods) == 1 for pods in by_node.values()) and set(by_node) <= set(lab.cluster.nodes) and bool(by_node),
        "one pod for each node, whoever asks",
        "; ".join(f"{node or 'nowhere'}: {', '.join(sorted(pods))}" for node, pods in sorted(by_node.items())),
    )
    lab.check(
        "because the nodes see the balancer, whoever asks",
        list(sources) == ["10.240.0.2"],
        f"{CLIENTS} connections, all from 10.240.0.2",
        words(sources),
    )
