"""Port 32261 of every node leads to the Service, whichever node its pods are on; and the pod sees the node.

Service nginx-nodeport opens the same port on each node.  A client that asks node1 may be
answered by a pod of node2: node1 rewrites the destination, and its own address goes in
as the source, because the answer must come back to the node that can undo it.  The rule
that catches node ports stands behind all cluster IPs: "must be the last rule in this chain".

Try next: `--nodes 4`, `--proxy-mode nftables`, and the scenario external-policy-local,
where the source is kept.
"""

from hoplab.hops.words import endpoint

MANIFESTS = ["node-port.yaml"]
LEAST_NODES = 2
PORT = 32261
LAST_RULE = "must be the last rule in this chain"


def run(lab):
    """Every node in turn, as a client, as a pod and as the node itself."""
    client = lab.host("client")
    pods = [running for running in lab.cluster.running() if running.pod.meta.labels.get("service") == "web"]
    for name, node in lab.cluster.nodes.items():
        flow = client.send_tcp(node, PORT, name=f"client to {name}:{PORT}")
        flow.expect_endpoint(*pods, port=80, name=f"{name}:{PORT} is answered by a pod of the Service")
        flow.expect_masquerade(on=name, name=f"{name} puts itself in as the source")
        flow.expect_reply_undone(name=f"the client gets its answer from {name}:{PORT}")
        seen = flow.last.before.src if flow.last else ""
        own = {address for _interface, address, _prefix in node.machine.netlink.addresses()}
        lab.check(
            f"the pod sees {name} as the client",
            seen in own and flow.result.client.startswith(f"{seen}:"),
            f"an address of {name}, in the frame and in the pod's own words",
            f"frame: {seen}; the pod says {flow.result.client or 'nothing'}",
        )
    across(lab, client)
    last_rule(lab, client)
    closed(lab, client)


def across(lab, client):
    """A flow that enters by a node and ends on another one."""
    sent = client.send_many(lab.node("node1"), 32, port=PORT, half_open=True)
    others = [flow for flow in sent if len(flow.nodes) == 5]
    lab.check(
        "some flows that enter by node1 end on another node",
        bool(others),
        "client -> lb -> node1 -> another node -> pod",
        f"{len(others)} of {len(sent)} flows; {' -> '.join((others or sent)[0].nodes)}",
    )
    local = [flow for flow in sent if len(flow.nodes) == 4]
    lab.check(
        "and some stay",
        bool(local),
        "client -> lb -> node1 -> pod",
        f"{len(local)} of {len(sent)} flows",
    )


def last_rule(lab, client):
    """Node ports are looked at after everything else."""
    if lab.cluster.options.proxy.mode != "iptables":
        return
    flow = client.send_tcp(lab.node("node2"), PORT, name=f"client to node2:{PORT} once more")
    flow.expect_rule(on="node2", chain="KUBE-SERVICES", text=LAST_RULE, name="the rule that must be last is the one")
    hop = flow.hop("node2")
    chain = [hit for hit in (hop.rules if hop else ()) if hit.chain == "KUBE-SERVICES" and hit.table == "nat"]
    lab.check(
        "no rule of KUBE-SERVICES is met behind it",
        bool(chain) and LAST_RULE in chain[-1].rule,
        "the last one that the packet met there",
        chain[-1].rule if chain else "none",
    )


def closed(lab, client):
    """A port that no Service has."""
    flow = client.send_tcp(lab.node("node1"), 32262, name="client to a port that no Service has")
    flow.expect_outcome("rejected", name="node1 itself refuses a port that no Service has")
    target = flow.last.after if flow.last else None
    lab.check(
        "nothing rewrites it",
        target is not None and (target.dst, target.dport) == (lab.node("node1").node.addresses[0], 32262),
        "the destination stays",
        endpoint(target.dst, target.dport) if target else "no packet was seen",
    )
