"""A packet from outside reaches pod d although the balancer picked a node without it.

Service B has one pod, d, on node2.  The cloud's load balancer knows nodes, not pods,
and picks node1.  node1 rewrites the destination to pod d (DNAT) and the source to
itself (masquerade), and forwards to node2; pod d answers node1, which undoes both, and
the balancer undoes its own rewrite.  Then the same through node2, Service A through
each node, how the balancer spreads flows, and what it does with a sick node.

With `--balancer-mode passthrough` the balancer hands the packet on as it is, and the answer
does not pass it.  With `--balancer-mode proxy` it is HAProxy: it ends the client's connection
and opens one of its own to the node, and the story goes on in that second leg.

Try next: `--balancer round-robin`, `--proxy-mode nftables`, `--fabric vxlan`, `--nodes 3`,
`--balancer-mode proxy`, and with it `--proxy-protocol`.
"""

from collections import Counter
from ipaddress import ip_network

from hoplab.scenario.lab import entry_node

TOPOLOGY = "cloud"
BALANCER = "10.240.0.2"
MANIFESTS = ["services-a-b.yaml"]
LEAST_NODES = 2


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
    if lab.cluster.options.mode == "proxy":
        nobody_well(lab, client)


def beyond(lab, flow):
    """The flow as the cluster sees it: behind a balancer that ends connections, the one that it opened."""
    return flow.leg(2) if lab.cluster.options.mode == "proxy" else flow


def ways(lab, *behind):
    """The ways of a flow's legs: to the balancer, and from it through these."""
    return (("client", "lb"), ("lb", *behind)) if lab.cluster.options.mode == "proxy" else (("client", "lb", *behind),)


def the_six_steps(lab, client):
    """Service B through node1, which has no pod of it: the chapter's six steps."""
    service, pod, node1 = lab.service("service-b"), lab.pod("d"), lab.node("node1")
    flow = client.send_tcp(service, balancer_picks="node1", name="service-b through node1")
    mode = lab.cluster.options.mode
    if mode == "nat":
        flow.expect_dnat(on="lb", to=node1, port=service.node_port, name="1. the balancer picks a node: node1")
    elif mode == "passthrough":
        flow.expect_no_nat(on="lb", name="1. the balancer picks a node, and hands it the packet as it is")
    else:
        flow.expect_second_leg(by="lb", name="1. the balancer picks a node, and asks it in a connection of its own")
    inside = beyond(lab, flow)
    inside.expect_dnat(on="node1", to=pod, port=80, name="2. node1 rewrites the destination to pod d")
    inside.expect_masquerade(on="node1", name="2. node1 masquerades, so that the answer comes back to it")
    flow.expect_legs(*ways(lab, "node1", "node2", "pod/d"), name="3. node2 delivers the packet to pod d")
    inside.expect_endpoint(pod, port=80, name="3. pod d answers")
    choice = "DNAT --to-destination" if lab.cluster.options.proxy.mode == "iptables" else "dnat to"
    inside.expect_rule(on="node1", text=choice, name="4. a rule of kube-proxy made the choice")
    home = {"nat": ("lb", "client"), "passthrough": ("router", "client"), "proxy": ("lb",)}[mode]
    inside.expect_reply_hops(
        "pod/d", "node2", "node1", *home, name="5. the answer is forwarded to the node that the packet came by"
    )
    inside.expect_conntrack(on="node1", name="6. node1's connection tracking remembers both rewrites")
    inside.expect_reply_undone(
        name=f"6. source and destination are undone, back to the {home[-1].replace('lb', 'balancer')}"
    )
    # Behind an overlay the node's address towards other nodes' pods is that of its overlay device.
    overlay = str(ip_network(node1.node.pod_cidrs[0]).network_address)
    source = overlay if lab.cluster.options.fabric == "vxlan" else node1
    inside.expect_source_seen(source, name="pod d sees node1 as the source, not the client")
    flow.expect_complete(name="data and the end of the connection take the same way")
    if mode == "proxy":
        who_the_client_is(lab, flow)


def who_the_client_is(lab, flow):
    """A proxy hides its client, unless it names it at the beginning of its own connection."""
    flow.expect_no_nat(name="the client's own connection ends at the balancer, and nothing rewrites it")
    flow.leg(2).expect_source_seen(BALANCER, at="node1", name="node1 sees the balancer as the source, not the client")
    flow.expect_reply_undone(name="the client is answered by the address that it asked")
    client = flow.result.sent
    if lab.cluster.options.proxy_protocol:
        flow.expect_client_told("PROXY", client.src, name="a PROXY header tells node and pod who the client is")
    said = flow.result.proxied
    wanted = f"{client.src}:{client.sport}" if lab.cluster.options.proxy_protocol else ""
    lab.check(
        "pod d knows its client by that header"
        if wanted
        else "without a PROXY header pod d knows nothing of the client",
        said == wanted and flow.pod == "d",
        wanted or "no word of the client",
        f"pod {flow.pod or '?'} says: the connection is from {flow.result.client}, for {said or 'nobody else'}",
        [leg.proxy_header or "leg 2 begins with the request itself" for leg in flow.flow.legs],
    )


def through_the_pods_own_node(lab, client):
    """Service B through node2, where its pod runs: one hop less."""
    flow = client.send_tcp(lab.service("service-b"), balancer_picks="node2", name="service-b through node2")
    inside = beyond(lab, flow)
    flow.expect_legs(*ways(lab, "node2", "pod/d"), name="through node2 there is no second node")
    inside.expect_dnat(on="node2", to=lab.pod("d"), port=80, name="node2 rewrites the destination to pod d")
    inside.expect_reply_undone(name="node2 and the balancer undo what they did")


def service_a_through_each_node(lab, client):
    """Service A has pods on both nodes: whichever node gets a flow, all three pods may answer.  Returns the flows."""
    pods = [lab.pod(name) for name in "abc"]
    # 40 flows through a node miss one of three pods with a chance of 3 * (2/3)^40: once in four million runs.
    sent = client.send_many(lab.service("service-a"), 48 * len(lab.cluster.nodes), **connecting(lab))
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
            inside = beyond(lab, flows[0])
            inside.expect_endpoint(*pods, port=80, name=f"a flow through {node} ends in a pod of service-a")
            inside.expect_reply_undone(name=f"a flow through {node} is undone on its way back")
    return sent


def other_protocols(lab, client):
    """UDP is balanced and rewritten like TCP; an echo request to a node is routed."""
    echo = client.send_icmp(lab.node("node1"), name="ping node1")
    echo.expect_hops("client", "lb", "node1", name="an echo request is routed, not balanced")
    echo.expect_no_nat(name="nobody rewrites an echo request to a node")
    asked = client.send_udp(lab.service("service-b", port="udp"), name="service-b by UDP")
    if lab.cluster.options.mode == "proxy":
        asked.expect_outcome("rejected", name="a balancer that ends connections refuses a datagram")
        asked.expect_hops("client", "lb", name="and no node ever sees it")
        return
    asked.expect_endpoint(lab.pod("d"), port=8081, name="a datagram to service-b is answered by pod d")
    asked.expect_reply_undone(name="the datagram's answer comes from the address that was asked")


def connecting(lab):
    """How to meet the balancer's choice again and again: a proxy makes it when a connection is there, and must forget
    the client's ports at once to take the same ones anew; the others make it at the first packet."""
    return {"aborts": True} if lab.cluster.options.mode == "proxy" else {}


def opening(lab):
    """The least that has the balancer choose."""
    return connecting(lab) or {"half_open": True}


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
    again = client.send_many(lab.service("service-a"), ports=list(nodes)[:16], **opening(lab))
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
    # In the order in which the balancer chose: a proxy's is that of its own connections.
    flows = sorted(
        (flow.flow for flow in sent), key=lambda flow: (flow.legs[0].flow if flow.legs else flow).forward[0].time_ns
    )
    order = [entry_node(flow) for flow in flows]
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
    nodes = Counter(entry_node(flow.flow) for flow in client.send_many(lab.service("service-b"), 8, **opening(lab)))
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
    # Hashed flows miss one of n nodes with a probability of (1 - 1/n)^(12n): a few in a million.
    count = 12 * len(lab.cluster.nodes)
    nodes = Counter(entry_node(flow.flow) for flow in client.send_many(lab.service("service-b"), count, **opening(lab)))
    lab.check(
        "a node that is healthy again gets flows again",
        "node1" in nodes,
        f"some of {count} new flows enter by node1",
        ", ".join(f"{node or 'nowhere'}: {count}" for node, count in sorted(nodes.items())),
        [f"{finding.target.node}: {finding.detail}" for finding in lab.cluster.balancer.findings],
    )


def nobody_well(lab, client):
    """A proxy takes the connection before it looks for a node; without one there is nothing to pass it on to."""
    nodes = list(lab.cluster.nodes.values())
    for node in nodes:
        node.healthy = False
    lab.check_health()
    flow = client.send_tcp(lab.service("service-b"), name="service-b with no node well")
    flow.expect_no_second_leg(name="with no node well the balancer asks none")
    lab.check(
        "the client is connected, and gets no answer",
        bool(flow.flow.reply) and flow.flow.outcome != "accepted" and flow.flow.reason.startswith("connected, "),
        "a handshake with the balancer, then the end of the connection",
        f"{flow.flow.outcome}: {flow.flow.reason}",
    )
    for node in nodes:
        node.healthy = True
    lab.check_health()
