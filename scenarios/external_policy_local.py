"""externalTrafficPolicy Local keeps the client's address and saves a hop; the price is uneven load.

Under policy Cluster any node takes a flow, sends it on to any pod, and hides the client
behind its own address.  Under policy Local a node gives flows only to its own pods: no
second hop, no masquerade, the pod sees the client.  A node without a pod must then get no
flows at all; the balancer learns it from the Service's health-check node port.  And a node
with three pods gets as many flows as a node with one, so that one pod works three times
as much as each of the others.

Try next: `--balancer round-robin`, `--balancer-mode passthrough`, `--nodes 4`.
"""

from collections import Counter

from hoplab.scenario.lab import entry_node

MANIFESTS = ["policy-local.yaml"]
NODES = 3
LEAST_NODES = 2
WITHOUT = {
    "--balancer-mode proxy": "policy Local keeps the source that a node sees, and behind a proxy that is the balancer:"
    " no client's address is there to be kept",
}
FLOWS = 240
"""So many that fair dice miss the shares below less than once in a million runs."""
PODS = ("a1", "a2", "a3", "b1")


def run(lab):
    """Cluster and Local side by side, then the nodes without pods, then the counting."""
    client = lab.host("client")
    both_policies(lab, client)
    without_a_pod(lab, client)
    imbalance(lab, client)


def both_policies(lab, client):
    """The same pods under both policies, entered by node2."""
    pods = [lab.pod(name) for name in PODS]
    hidden = client.send_tcp(lab.service("cluster-policy"), balancer_picks="node2", name="policy Cluster by node2")
    hidden.expect_endpoint(*pods, port=80, name="policy Cluster: any pod may answer")
    hidden.expect_masquerade(on="node2", name="policy Cluster: node2 puts itself in as the source")
    kept = client.send_tcp(lab.service("local-policy"), balancer_picks="node2", name="policy Local by node2")
    kept.expect_hops("client", "lb", "node2", "pod/b1", name="policy Local: no second hop, node2's own pod answers")
    kept.expect_no_masquerade(on="node2", name="policy Local: node2 leaves the source alone")
    kept.expect_source_seen("203.0.113.10", at="pod/b1", name="policy Local: the pod sees the client's own address")
    told = kept.result.client
    lab.check(
        "the pod itself says so",
        told.startswith("203.0.113.10:"),
        "203.0.113.10 and the client's port",
        told or "no pod answered",
    )
    kept.expect_reply_undone(name="policy Local: the answer finds its way")


def without_a_pod(lab, client):
    """Nodes without a pod: refused by the health check, and dropped by the rules if asked all the same."""
    empty = sorted(set(lab.cluster.nodes) - {"node1", "node2"})
    if lab.cluster.balancer is not None:
        told = {
            finding.target.node: finding for finding in lab.cluster.balancer.findings if finding.target.port != 10256
        }
        lab.check(
            "the balancer's health check finds no pod on " + ", ".join(empty),
            bool(told) and all(not told[name].healthy for name in empty) and told["node1"].healthy,
            "node1 and node2 pass, the others do not",
            "; ".join(f"{name}: {finding.detail}" for name, finding in told.items()),
        )
    sent = client.send_many(lab.service("local-policy"), 24, half_open=True)
    nodes = Counter(entry_node(flow.flow) for flow in sent)
    lab.check(
        "no flow is handed to a node without a pod",
        set(nodes) <= {"node1", "node2"} and "" not in nodes,
        "every flow enters by node1 or node2",
        ", ".join(f"{node or 'nowhere'}: {count}" for node, count in sorted(nodes.items())),
    )
    port = lab.service("local-policy").node_port
    for name in empty:
        flow = client.send_tcp(lab.node(name), port, name=f"past the balancer to {name}", deadline_s=0.4)
        flow.expect_outcome("dropped", name=f"{name} drops what reaches its node port all the same")


def imbalance(lab, client):
    """Flows for each pod under both policies."""
    shares = {}
    for name in ("cluster-policy", "local-policy"):
        sent = client.send_many(lab.service(name), FLOWS, half_open=True)
        answered = Counter(flow.nodes[-1].removeprefix("pod/") for flow in sent if flow.flow.outcome == "accepted")
        shares[name] = [answered[pod] for pod in PODS]
        lab.check(
            f"{name}: all {FLOWS} flows are answered",
            sum(shares[name]) == FLOWS,
            f"{FLOWS} answers",
            ", ".join(f"{pod}: {answered[pod]}" for pod in PODS),
        )
    local = shares["local-policy"]
    lab.check(
        "policy Local: the lone pod of node2 gets as much as all three of node1 together",
        min(local[3], sum(local[:3])) > FLOWS * 0.3,
        "about half of the flows for b1, a sixth for each of the others",
        ", ".join(f"{pod}: {count}" for pod, count in zip(PODS, local, strict=True)),
    )
    cluster = shares["cluster-policy"]
    lab.check(
        "policy Cluster: each pod gets its quarter",
        max(cluster) < FLOWS * 0.42 and min(cluster) > FLOWS * 0.1,
        "about a quarter of the flows each",
        ", ".join(f"{pod}: {count}" for pod, count in zip(PODS, cluster, strict=True)),
    )
