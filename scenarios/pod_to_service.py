"""A pod asks a Service: an address that nobody has becomes one of two pods, by a throw of dice in the rules.

The chapter's node: ReplicationController nginx-1.12 with two pods, Service nginx-nodeport
with cluster IP 10.0.0.167.  No interface has that address.  A rule with a random number
picks an endpoint, DNAT rewrites the destination to the pod, connection tracking remembers
it, and the answer is rewritten back, so the asking pod never learns whom it talked to.

Try next: `--kubernetes 1.7`, which gives the chapter's own chain names and comments (with
`--pause`, then `node1 iptables -t nat -nL`), and `--proxy-mode nftables`.
"""

from collections import Counter

from hoplab.checks.spread import UNEVEN, chance, chi_square
from hoplab.hops.evidence import Tuple

TOPOLOGY = "single"
MANIFESTS = ["chapter-3.yaml"]
FLOWS = 300
CHAINS_OF_1_7 = ("KUBE-SVC-37ROJ3MK6RKFMQ2B", "KUBE-SEP-SVVBOHTYP7PAP3J5", "KUBE-SEP-AYS7I6ZPYFC6YNNF")


def run(lab):
    """One flow in full, then many to count."""
    service = lab.service("nginx-nodeport")
    endpoints = sorted(r.ips[0] for r in lab.cluster.running() if r.pod.meta.name.startswith("nginx-1.12"))
    lab.check(
        "the Service has two endpoints, 10.1.0.4 and 10.1.0.5",
        endpoints == ["10.1.0.4", "10.1.0.5"],
        "10.1.0.4, 10.1.0.5",
        ", ".join(endpoints),
    )
    one_flow(lab, service, [r for r in lab.cluster.running() if r.ips[0] in endpoints])
    many_flows(lab, service, endpoints)


def one_flow(lab, service, pods):
    """The chapter's way, step by step."""
    shell = lab.host("pod/shell")
    flow = shell.send_tcp(service.at_cluster_ip(), name="shell to nginx-nodeport")
    sent = flow.result.sent
    # Of the two pods the one that it came to; when it came to neither, what is expected of the first one fails.
    pod = next((each for each in pods if each.namespace.name in flow.nodes), pods[0])
    flow.expect_hops(
        "pod/shell", "node1", pod.namespace.name, name="the packet goes to the node and from there to a pod"
    )
    flow.expect_dnat(on="node1", to=pod, port=80, name="the destination 10.0.0.167 becomes a pod")
    flow.expect_no_masquerade(on="node1", name="a pod that asks keeps its own address")
    flow.expect_source_seen(lab.pod("shell"), name="nginx sees the asking pod")
    remembered = Tuple(pod.ips[0], 80, sent.src, sent.sport)
    flow.expect_conntrack(on="node1", original=sent, reply=remembered, name="connection tracking remembers both")
    flow.expect_reply_undone(name="the answer comes from 10.0.0.167 again")
    flow.expect_complete(name="the request and its answer pass whole")
    lab.check(
        "nginx answers",
        "nginx" in flow.result.text.lower(),
        "nginx' own page",
        flow.result.text.splitlines()[0] if flow.result.text else "nothing",
    )
    if lab.cluster.options.proxy.kubernetes == "1.7":
        chains = [hit.chain for hop in flow.flow.forward for hit in hop.rules]
        met = [chain for chain in chains if chain in CHAINS_OF_1_7]
        lab.check(
            "the chains are those of the chapter's listing",
            len(set(met)) >= 2 and CHAINS_OF_1_7[0] in met,
            f"{CHAINS_OF_1_7[0]}, then {' or '.join(CHAINS_OF_1_7[1:])}",
            ", ".join(dict.fromkeys(met)) or "none of them",
        )


def many_flows(lab, service, endpoints):
    """Probability 0.5 for each, counted."""
    throws, chances = [], []
    # Fair dice fall more unevenly than UNEVEN once in a thousand times, twice in a row once in a million.
    while not chances or (chances[-1] < UNEVEN and len(chances) < 2):
        sent = lab.host("pod/shell").send_many(service.at_cluster_ip(), FLOWS, half_open=True)
        counts = Counter(flow.flow.forward[-1].after.dst for flow in sent if flow.flow.outcome == "accepted")
        throws.append([counts[endpoint] for endpoint in endpoints])
        chances.append(chance(throws[-1]) if sum(throws[-1]) else 0.0)
    lab.check(
        f"each of {FLOWS} flows reaches one of the endpoints",
        all(sum(shares) == FLOWS for shares in throws),
        f"{FLOWS} answers",
        "; ".join(", ".join(map("{} {}".format, endpoints, shares)) for shares in throws),
    )
    lab.check(
        "the dice are fair: statistic probability 0.5",
        chances[-1] >= UNEVEN,
        f"equal shares (chi-square test, p >= {UNEVEN}; thrown a second time when they are not)",
        "; ".join(map(told, throws, chances)),
    )


def told(shares, probability):
    """One throw's counts and what the test says of them, as text."""
    if not sum(shares):
        return "no answer"
    return f"{shares[0]} and {shares[1]}: chi-square {chi_square(shares):.2f}, p {probability:.3f}"
