"""A packet from outside reaches pod d although the balancer picked a node without it.

Service B has one pod, d, on node2.  The cloud's load balancer knows nodes, not pods,
and picks node1.  node1 rewrites the destination to pod d (DNAT) and the source to
itself (masquerade), and forwards to node2; pod d answers node1, which undoes both, and
the balancer undoes its own rewrite.  Then the same through node2, Service A through
each node, how the balancer spreads flows, and what it does with a sick node.

Try next: `--balancer round-robin`, `--proxy-mode nftables`, `--fabric vxlan`, `--nodes 3`.
"""

from collections import Counter
from ipaddress import ip_network

from hoplab.scenario.lab import entry_node

TOPOLOGY = "cloud"
MANIFESTS = ["services-a-b.yaml"]


def run(lab):
    """Send, watch, judge."""
    client = lab.host("client")
    the_six_steps(lab, client)
    through_the_pods_own_node(lab, client)
    sent = service_a_through_each_node(lab, client)
    spread = hash_balancing if lab.cluster.options.algorithm == "hash" else round_robin
    spread(lab, client, sent)
    other_protocols(lab, client)
    a_sick_node(lab, client)


def the_six_steps(lab, client):
    """Service B through node1, which has no pod of it: the chapter's six steps."""
    service, pod, node1 = lab.service("service-b"), lab.pod("d"), lab.node("node1")
    flow = client.send_tcp(service, balancer_picks="node1", name="service-b through node1")
    nat = lab.cluster.options.mode == "nat"
    if nat:
        flow.expect_dnat(on="lb", to=node1, port=service.node_port, name="1. the balancer picks a node: node1")
    else:
        flow.expect_no_nat(on="lb", name="1. the balancer picks a node, and hands it the packet as it is")
    flow.expect_dnat(on="node1", to=pod, port=80, name="2. node1 rewrites the destination to pod d")
    flow.expect_masquerade(on="node1", name="2. node1 masquerades, so that the answer comes back to it")
    flow.expect_hops("client", "lb", "node1", "node2", "pod/d", name="3. node2 delivers the packet to pod d")
    flow.expect_endpoint(pod, port=80, name="3. pod d answers")
    choice = "DNAT --to-destination" if lab.cluster.options.proxy.mode == "iptables" else "dnat to"
    flow.expect_rule(on="node1", text=choice, name="4. a rule of kube-proxy made the choice")
    way_back = ("pod/d", "node2", "node1", "lb", "client") if nat else ("pod/d", "node2", "node1", "router", "client")
    flow.expect_reply_hops(*way_back, name="5. the answer is forwarded to the node that the packet came by")
    flow.expect_conntrack(on="node1", name="6. node1's connection tracking remembers both rewrites")
    flow.expect_reply_undone(name="6. source and destination are undone, back to the client")
    # Behind an overlay the node's address towards other nodes' pods is that of its overlay device.
    overlay = str(ip_network(node1.node.pod_cidrs[0]).network_address)
    source = overlay if lab.cluster.options.fabric == "vxlan" else node1
    flow.expect_source_seen(source, name="pod d sees node1 as the source, not the client")
    flow.expect_complete(name="data and the end of the connection take the same way")


def through_the_pods_own_node(lab, client):
    """Service B through node2, where its pod runs: one hop less."""
    flow = client.send_tcp(lab.service("service-b"), balancer_picks="node2", name="service-b through node2")
    flow.expect_hops("client", "lb", "node2", "pod/d", name="through node2 there is no second node")
    flow.expect_dnat(on="node2", to=lab.pod("d"), port=80, name="node2 rewrites the destination to pod d")
    flow.expect_reply_undone(name="node2 and the balancer undo what they did")


def service_a_through_each_node(lab, client):
    """Service A has pods on both nodes: whichever node gets a flow, all three pods may answer.  Returns the flows."""
    pods = [lab.pod(name) for name in "abc"]
    # 32 flows through a node miss one of three pods with a chance of 3 * (2/3)^32: seven in a million.
    sent = client.send_many(lab.service("service-a"), 32 * len(lab.cluster.nodes))
    for node in ("node1", "node2"):
        flows = [flow for flow in sent if entry_node(flow.flow) == node and flow.flow.outcome == "accepted"]
        answered = Counter(flow.pod for flow in flows)
        lab.check(
            f"service-a through {node} is answered by all three pods",
            set(answered) == {"a", "b", "c"},
            "answers from a, b and c",
            ", ".join(f"{pod}: {count}" for pod, count in sorted(answered.items())) or "no answer",
            [f"{len(flows)} flows were seen to enter by {node}"],
        )
        if flows:
            flows[0].expect_endpoint(*pods, port=80, name=f"a flow through {node} ends in a pod of service-a")
            flows[0].expect_reply_undone(name=f"a flow through {node} is undone on its way back")
    return sent


def other_protocols(lab, client):
    """UDP is balanced and rewritten like TCP; an echo request to a node is routed."""
    echo = client.send_icmp(lab.node("node1"), name="ping node1")
    echo.expect_hops("client", "lb", "node1", name="an echo request is routed, not balanced")
    echo.expect_no_nat(name="nobody rewrites an echo request to a node")
    asked = client.send_udp(lab.service("service-b", port="udp"), name="service-b by UDP")
    asked.expect_endpoint(lab.pod("d"), port=8081, name="a datagram to service-b is answered by pod d")
    asked.expect_reply_undone(name="the datagram's answer comes from the address that was asked")


def hash_balancing(lab, client, sent):
    """Hash over addresses, ports and protocol: the same tuple always meets the same node."""
    nodes = {flow.result.sent.sport: entry_node(flow.flow) for flow in sent}
    counts = Counter(nodes.values())
    lab.check(
        f"hash: {len(nodes)} client ports use every node",
        set(counts) == set(lab.cluster.nodes),
        f"flows to each of {', '.join(lab.cluster.nodes)}",
        ", ".join(f"{node or 'nowhere'}: {count}" for node, count in sorted(counts.items())),
    )
    again = client.send_many(lab.service("service-a"), ports=list(nodes)[:16], half_open=True)
    moved = [
        f"port {flow.result.sent.sport}: {nodes[flow.result.sent.sport]} then {entry_node(flow.flow)}"
        for flow in again
        if entry_node(flow.flow) != nodes[flow.result.sent.sport]
    ]
    lab.check(
        "hash: the same tuple meets the same node again",
        not moved and len(again) == 16,
        "16 tuples sent a second time meet the node they met before",
        "; ".join(moved) or f"all {len(again)} did",
    )


def round_robin(lab, client, sent):
    """Round robin: the next node for each new flow, exactly in turn."""
    order = [entry_node(flow.flow) for flow in sent]
    nodes = len(lab.cluster.nodes)
    turn = order[:nodes]
    wrong = [number for number, node in enumerate(order) if node != turn[number % nodes]]
    lab.check(
        "round robin: each new flow goes to the next node, exactly in turn",
        not wrong and len(set(turn)) == nodes,
        f"{nodes} nodes in turn over {len(order)} flows",
        " ".join(order[: 2 * nodes]) + (f" ...; flow {wrong[0] + 1} went to {order[wrong[0]]}" if wrong else " ..."),
    )


def a_sick_node(lab, client):
    """A node whose health check fails gets no new flow; a healthy one gets them again."""
    lab.node("node1").healthy = False
    lab.check_health()
    nodes = Counter(entry_node(flow.flow) for flow in client.send_many(lab.service("service-b"), 8, half_open=True))
    others = set(lab.cluster.nodes) - {"node1"}
    lab.check(
        "a node whose health check fails gets no new flow",
        bool(nodes) and set(nodes) <= others,
        f"8 new flows, all to {' or '.join(sorted(others))}",
        ", ".join(f"{node or 'nowhere'}: {count}" for node, count in sorted(nodes.items())),
        [f"{finding.target.node}: {finding.detail}" for finding in lab.cluster.balancer.findings],
    )
    lab.node("node1").healthy = True
    lab.check_health()
    nodes = Counter(entry_node(flow.flow) for flow in client.send_many(lab.service("service-b"), 16, half_open=True))
    lab.check(
        "a node that is healthy again gets flows again",
        "node1" in nodes,
        "some of 16 new flows enter by node1",
        ", ".join(f"{node or 'nowhere'}: {count}" for node, count in sorted(nodes.items())),
    )
