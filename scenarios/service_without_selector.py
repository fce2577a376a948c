"""A Service without a selector gets no endpoints until somebody writes them; they may lie outside the cluster.

A selector makes the endpoints follow the pods.  Without one the Service has an address
and nobody behind it: it refuses.  Endpoints written by hand fill the gap, with a pod's
address or with that of a machine beside the cluster, such as a database that was there
before Kubernetes came.  Taken away again, the Service refuses again.

Try next: a slice with `conditions: {ready: false}`, `--proxy-mode nftables`.
"""

MANIFESTS = ["without-selector.yaml"]
LEAST_NODES = 2
WITHOUT = {
    "--kubernetes 1.7": "kube-proxy of 2017 refuses what a node itself sends to a Service without endpoints, and lets"
    " a pod's packet wander off to the world; that it refuses is what this scenario shows first",
}
ENDPOINTS = """
apiVersion: v1
kind: Endpoints
metadata: {{name: database}}
subsets: [{{addresses: [{{ip: {address}}}], ports: [{{port: {port}}}]}}]
"""


def run(lab):
    """Nobody, a pod, a machine outside, nobody."""
    asker, service = lab.host("pod/asker"), lab.service("database").at_cluster_ip()
    refused(asker.send_tcp(service, name="nobody behind it"), "without endpoints the Service refuses")
    by_hand(lab, asker, service)
    outside(lab, asker, service)
    lab.delete_slices("database")
    refused(asker.send_tcp(service, name="nobody behind it again"), "taken away, it refuses again")


def refused(flow, name):
    """kube-proxy rejects what has no endpoints."""
    flow.expect_outcome("rejected", name=name)
    flow.expect_rule(on="node1", text="reject", name=f"{name}: by a rule of node1")


def by_hand(lab, asker, service):
    """A pod that no selector found."""
    lab.apply(ENDPOINTS.format(address="10.1.2.20", port=5432))
    flow = asker.send_tcp(service, name="a pod written by hand")
    flow.expect_dnat(on="node1", to="10.1.2.20", port=5432, name="endpoints written by hand are what rules lead to")
    flow.expect_hops("pod/asker", "node1", "node2", "pod/database", name="the pod that nobody selected is reached")
    flow.expect_no_masquerade(on="node1", name="the asking pod keeps its address")
    flow.expect_reply_undone(name="the answer comes from the Service's address")


def outside(lab, asker, service):
    """A machine beside the cluster: the client's own machine plays the database."""
    address = "203.0.113.10"
    with lab.serving("client", address, 5432):
        lab.apply(ENDPOINTS.format(address=address, port=5432))
        flow = asker.send_tcp(service, name="a machine outside")
        flow.expect_dnat(on="node1", to=address, port=5432, name="an endpoint may lie outside the cluster")
        way_out = ("router",) if lab.cluster.options.mode == "passthrough" else ("lb",)
        flow.expect_hops("pod/asker", "node1", *way_out, "client", name="the packet leaves the cluster")
        node1 = lab.node("node1").node.addresses[0]
        flow.expect_source_seen(node1, name="what leaves the cluster has the node's address (ip-masq-agent)")
        flow.expect_reply_undone(name="the answer comes from the Service's address all the same")
