"""Pod to pod: on one node a bridge carries the frame as it is; to another node it is routed, and never rewritten.

On the same node both pods hang on one bridge: the asking pod finds the other's hardware
address by ARP, and the frame arrives with the TTL it was sent with.  Another node's pods
are another network: the packet goes to the node, ARP finds the physical interface of the
other node, each node takes one off the TTL, and no address changes on the whole way.  With
an overlay the packet travels inside another one, from node to node, and pods have less MTU.

Try next: `--fabric vxlan`, and compare the MTU; the scenario docker-bridge.
"""

import json
from typing import NamedTuple

from hoplab.hops.sightings import read_frames

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
    flow.expect_outcome("accepted", name="same node: b answers")
    flow.expect_no_nat(name="same node: nothing is rewritten")
    flow.expect_source_seen(lab.pod("a"), name="same node: b sees a's own address")
    hop = flow.hop("node1")
    lab.check(
        "same node: the TTL stays",
        hop is not None and hop.ttl_in == hop.ttl_out == 64,
        "TTL 64 into the bridge and out of it",
        f"in {hop.ttl_in}, out {hop.ttl_out}" if hop else "not seen in node1",
    )
    sender, receiver = ends(flow)
    lab.check(
        "same node: the frame carries the hardware addresses of the two pods",
        sender == receiver and sender[0] != sender[1] and "" not in sender,
        "the same two hardware addresses where it leaves a and where it arrives at b",
        f"left as {' -> '.join(sender)}, came as {' -> '.join(receiver)}",
    )
    told = arp_answer(lab, "pod/a", b.ips[0])
    lab.check(
        "same node: a found it by ARP: b itself told it",
        told is not None and told.mac == receiver[1],
        f"an answer to a's question for {b.ips[0]}, with the address that the frame was sent to",
        f"{b.ips[0]} is at {told.mac}; the frame was sent to {receiver[1]}" if told else "no ARP answer came to pod/a",
        [f"frame {told.frame}"] if told else [],
    )
    learned = fdb(lab, "node1")
    ports = {sender[0]: hop.in_interface, receiver[1]: hop.out_interface} if hop else {}
    lab.check(
        "same node: the bridge has learned behind which of its ports each pod is (FDB)",
        bool(ports) and all(learned.get(mac) == port for mac, port in ports.items()),
        "; ".join(f"{mac} behind {port}" for mac, port in ports.items()) or "both pods",
        "; ".join(f"{mac} behind {learned.get(mac, 'no port')}" for mac in ports) or "the packet was not seen in node1",
    )


def ends(flow):
    """(source, destination) hardware addresses of the frame where it left its sender, and where it arrived."""
    first, last = (flow.flow.forward[0], flow.last) if flow.flow.forward else (None, None)
    return (first and first.mac_out) or ("", ""), (last and last.mac_in) or ("", "")


class Told(NamedTuple):
    """An ARP answer that came in somewhere: what it says, and the frame that shows it."""

    mac: str
    frame: int


def arp_answer(lab, where, address):
    """The last ARP answer about this address that came into a namespace, None when there was none."""
    _packets, messages = read_frames(lab.observer.evidence().frames)
    came = [
        Told(arp.sender_mac, frame.number)
        for frame, arp in messages
        if frame.node == where and frame.direction == "in" and not arp.request and arp.sender == address
    ]
    return came[-1] if came else None


def fdb(lab, node):
    """What the pods' bridge of a node has learned from frames: hardware address -> port."""
    listed = json.loads(lab.node(node).namespace.run(["bridge", "-j", "fdb", "show", "br", "cni0"]).stdout or "[]")
    return {each["mac"]: each["ifname"] for each in listed if each.get("state") != "permanent"}


def other_node(lab):
    """a on node1, c on node2."""
    a, c = lab.host("pod/a"), lab.pod("c")
    flow = a.send_tcp(c, 80, name="a to c, other node")
    flow.expect_hops("pod/a", "node1", "node2", "pod/c", name="other node: routed by both nodes")
    flow.expect_outcome("accepted", name="other node: c answers")
    flow.expect_no_nat(name="other node: nothing is rewritten")
    flow.expect_source_seen(lab.pod("a"), name="other node: c sees a's own address")
    last = flow.last
    lab.check(
        "other node: each node takes one off the TTL",
        last is not None and last.node == "pod/c" and last.ttl_in == 62,
        "TTL 62 at the pod, 64 when it was sent",
        f"TTL {last.ttl_in} in {last.node}" if last else "the packet was not seen",
    )
    flow.expect_reply_undone(name="other node: the answer comes back the same way")
    tunnels = [hop.tunnel for hop in flow.flow.forward if hop.tunnel]
    overlay = lab.cluster.options.fabric == "vxlan"
    lab.check(
        "between the nodes it travels " + ("inside another packet" if overlay else "as it is"),
        bool(tunnels) if overlay else flow.hop("node2") is not None and not tunnels,
        "an outer header from node to node (VXLAN)" if overlay else "seen in both nodes, without an outer header",
        "; ".join(dict.fromkeys(tunnels)) or f"no outer header was seen in {' -> '.join(flow.nodes) or 'any place'}",
    )
    hop = flow.hop("node2")
    sent_to = hop.mac_in[1] if hop and hop.mac_in else ""
    address = lab.node("node2").node.addresses[0]
    told = arp_answer(lab, "node1", address)
    lab.check(
        "ARP found the other node's interface: the frame is addressed to node2",
        told is not None and told.mac == sent_to,
        f"the frame comes into node2 addressed as node2 itself told node1 for {address}",
        f"{address} is at {told.mac if told else 'no address that an ARP answer told'}; the frame came by"
        f" {hop.in_interface} for {sent_to}"
        if hop
        else "the frame was not seen in node2",
        [f"frame {told.frame}"] if told else [],
    )


def the_mtu(lab):
    """The largest packet that the way between the nodes takes is what pods are told that they may send."""
    room = 1500 - (VXLAN_ROOM if lab.cluster.options.fabric == "vxlan" else 0)
    payload = room - 28
    fits = lab.host("pod/a").send_icmp(lab.pod("c"), size=payload, name=f"an echo request of {room} bytes")
    fits.expect_outcome("accepted", name=f"{room} bytes fit into a packet from pod to pod")
    sizes = {mtu_of(lab, name) for name in ("pod/a", "pod/c")}
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
