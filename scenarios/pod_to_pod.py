"""Pod to pod: on one node a bridge carries the frame as it is; to another node it is routed, and never rewritten.

On the same node both pods hang on one bridge: the asking pod finds the other's hardware
address by ARP, and the frame arrives with the TTL it was sent with.  Another node's pods
are another network: the packet goes to the node, ARP finds the physical interface of the
other node, each node takes one off the TTL, and no address changes on the whole way.  With
an overlay the packet travels inside another one, from node to node, and pods have less MTU.

Try next: `--fabric vxlan`, and compare the MTU; the scenario docker-bridge.
"""

MANIFESTS = ["pods.yaml"]
LEAST_NODES = 2
VXLAN_ROOM = 50


def run(lab):
    """Same node, other node, and what fits into one packet."""
    same_node(lab)
    other_node(lab)
    the_mtu(lab)


def same_node(lab):
    """a and b on node1's bridge."""
    a, b = lab.host("pod/a"), lab.pod("b")
    flow = a.send_tcp(b, 80, name="a to b, same node")
    flow.expect_hops("pod/a", "node1", "pod/b", name="same node: the packet passes node1's bridge")
    flow.expect_no_nat(name="same node: nothing is rewritten")
    flow.expect_source_seen(lab.pod("a"), name="same node: b sees a's own address")
    hop = next(hop for hop in flow.flow.forward if hop.node == "node1")
    lab.check(
        "same node: the TTL stays",
        hop.ttl_in == hop.ttl_out == 64,
        "TTL 64 into the bridge and out of it",
        f"in {hop.ttl_in}, out {hop.ttl_out}",
    )
    sender, receiver = (flow.flow.forward[0].mac_out or ("", ""), flow.flow.forward[-1].mac_in or ("", ""))
    lab.check(
        "same node: the frame carries the hardware addresses of the two pods",
        sender == receiver and sender[0] != sender[1] and "" not in sender,
        "the same two hardware addresses where it leaves a and where it arrives at b",
        f"left as {' -> '.join(sender)}, came as {' -> '.join(receiver)}",
    )


def other_node(lab):
    """a on node1, c on node2."""
    a, c = lab.host("pod/a"), lab.pod("c")
    flow = a.send_tcp(c, 80, name="a to c, other node")
    flow.expect_hops("pod/a", "node1", "node2", "pod/c", name="other node: routed by both nodes")
    flow.expect_no_nat(name="other node: nothing is rewritten")
    flow.expect_source_seen(lab.pod("a"), name="other node: c sees a's own address")
    last = flow.flow.forward[-1]
    lab.check(
        "other node: each node takes one off the TTL",
        last.ttl_in == 62,
        "TTL 62 at the pod, 64 when it was sent",
        f"TTL {last.ttl_in}",
    )
    flow.expect_reply_undone(name="other node: the answer comes back the same way")
    tunnels = [hop.tunnel for hop in flow.flow.forward if hop.tunnel]
    overlay = lab.cluster.options.fabric == "vxlan"
    lab.check(
        "between the nodes it travels " + ("inside another packet" if overlay else "as it is"),
        bool(tunnels) if overlay else not tunnels,
        "an outer header from node to node (VXLAN)" if overlay else "no outer header",
        "; ".join(dict.fromkeys(tunnels)) or "no outer header was seen",
    )
    hop = next(hop for hop in flow.flow.forward if hop.node == "node2")
    lab.check(
        "ARP found the other node's interface: the frame is addressed to node2",
        hop.mac_in is not None and hop.in_interface is not None and len(hop.frames) > 1,
        "the frame comes into node2 by its uplink",
        f"by {hop.in_interface}, as {' -> '.join(hop.mac_in) if hop.mac_in else 'unseen'}",
    )


def the_mtu(lab):
    """The largest packet that fits is sent whole; one byte more is told."""
    room = 1500 - (VXLAN_ROOM if lab.cluster.options.fabric == "vxlan" else 0)
    payload = room - 28
    fits = lab.host("pod/a").send_icmp(lab.pod("c"), size=payload, name=f"an echo request of {room} bytes")
    fits.expect_outcome("accepted", name=f"{room} bytes fit into a packet from pod to pod")
    sizes = {mtu for name in ("pod/a", "pod/c") for mtu in [mtu_of(lab, name)]}
    lab.check(
        "the pods' interfaces say the same",
        sizes == {room},
        f"MTU {room}",
        ", ".join(map(str, sorted(sizes))),
    )


def mtu_of(lab, name):
    """MTU of a pod's interface, from the kernel."""
    from hoplab.net.netlink import Netlink

    link = Netlink(lab.namespaces[name])
    try:
        return link.links()["eth0"]["mtu"]
    finally:
        link.close()
