"""How a pod gets its address: the chapter's k8s.conf, handed to the real bridge and host-local plugins.

The kubelet does not use docker0; it calls a plugin with a configuration and a namespace,
and the plugin makes the interface, ties it to the bridge, asks host-local for an address
and sets the routes.  ADD answers with JSON, CHECK says whether all is still as ADD left it,
DEL gives the address back.  What the pod sends to anywhere leaves by the gateway 10.1.0.1,
and by a chain of its own in the nat table: CNI- and a hash of network and container.

A second node with 10.1.2.0/16 lies inside 10.1.0.0/16: this node takes the other's pods
for neighbours on its own bridge, asks for them by ARP, and gets no answer.

Try next: `--pause`, then `node1 cat /etc/cni/net.d/k8s.conf`, `node1 iptables -t nat -nL`.
"""

import json

from hoplab.kube.together import overlapping
from hoplab.kube.types import Node
from hoplab.net.cni import CniError, CniRuntime

TOPOLOGY = "single"
MANIFESTS = ["chapter-1.yaml"]
CHAINS = {"first": "CNI-25df152800e33f7b16fc085a", "second": "CNI-f1931fed74271104c4d10006"}
THIRD = """
apiVersion: v1
kind: Pod
metadata: {name: third, annotations: {hoplab.dev/ip: 10.1.0.9}}
spec: {containers: [{name: web, image: hoplab/whoami, ports: [{containerPort: 80}]}]}
"""


def run(lab):
    """What ADD gave, the way out, the neighbour, CHECK, DEL, the overlap."""
    what_add_gave(lab)
    for name in CHAINS:
        the_way_out(lab, name)
    the_neighbour(lab)
    check_and_delete(lab)
    the_overlap(lab)


def what_add_gave(lab):
    """The plugin's own answer, and the pod's kernel."""
    pod = lab.pod("first")
    address = pod.result.addresses[0] if pod.result.addresses else ""
    lab.check(
        "ADD answers with the address and the gateway",
        (address, pod.result.gateway) == ("10.1.0.4/16", "10.1.0.1"),
        "10.1.0.4/16 by way of 10.1.0.1",
        f"{address} by way of {pod.result.gateway}",
        [json.dumps(pod.result.document)],
    )


def the_way_out(lab, name):
    """A pod asks the machine outside: masqueraded by the plugin's chain."""
    flow = lab.host(f"pod/{name}").send_icmp("192.168.99.1", name=f"{name} to the world")
    flow.expect_hops(f"pod/{name}", "node1", "client", name=f"{name}: what goes out passes the gateway")
    flow.expect_rule(on="node1", chain=CHAINS[name], name=f"{name}: its own chain {CHAINS[name]} takes it")
    flow.expect_masquerade(on="node1", to=["192.168.99.100"], name=f"{name}: outside it has the node's address")
    flow.expect_reply_undone(name=f"{name}: the answer finds back")


def the_neighbour(lab):
    """Pods of one node see each other as they are."""
    flow = lab.host("pod/first").send_tcp(lab.pod("second"), 80, name="first to second")
    flow.expect_hops("pod/first", "node1", "pod/second", name="two pods of a node meet on the bridge")
    flow.expect_no_nat(name="and nothing is rewritten between them")
    hop = flow.hop("node1")
    # A bridge writes down behind which port it saw an address.
    listed = json.loads(
        lab.node("node1").namespace.run(["bridge", "-j", "fdb", "show", "br", "mybridge"]).stdout or "[]"
    )
    learned = {each["mac"]: each["ifname"] for each in listed if each.get("state") != "permanent"}
    ports = {hop.mac_in[0]: hop.in_interface, hop.mac_out[1]: hop.out_interface} if hop and hop.mac_out else {}
    lab.check(
        "the bridge is mybridge",
        bool(ports) and all(learned.get(mac) == port for mac, port in ports.items()),
        "both pods' hardware addresses, learned by mybridge behind the ports that the frame passed",
        "; ".join(f"{mac} behind {learned.get(mac, 'no port')}" for mac in ports) or "no frame passed node1",
        [f"frame {number}" for number in hop.frames] if hop else [],
    )


def check_and_delete(lab):
    """CHECK needs a configuration of version 0.4.0 or newer; DEL gives the address back."""
    conf = json.loads(read(lab, "k8s.conf")) | {"cniVersion": "0.4.0"}
    lab.use_network("node1", "00-with-version.conf", json.dumps(conf))
    lab.apply(THIRD)
    pod = lab.pod("third")
    lab.check("CHECK finds the new pod as ADD left it", complaint(pod) == "", "no complaint", complaint(pod) or "none")
    pod.namespace.run(["ip", "address", "delete", "10.1.0.9/16", "dev", "eth0"])
    words = complaint(pod)
    lab.check("CHECK finds a missing address", bool(words), "a complaint of the plugin", words or "no complaint")
    lab.delete_pod("third")
    lab.apply(THIRD)
    again = lab.pod("third")
    lab.check(
        "DEL gave the address back: the next pod gets it",
        again.ips == ("10.1.0.9",) and again.namespace != pod.namespace,
        "10.1.0.9 for a new pod",
        ", ".join(again.ips),
    )
    flow = lab.host("pod/first").send_tcp(again, 80, name="first to the new pod")
    flow.expect_outcome("accepted", name="the new pod answers at that address")


def complaint(pod):
    """What CHECK says, '' for nothing."""
    try:
        CniRuntime().check(pod.attachment, pod.result)
    except CniError as error:
        return error.message
    return ""


def read(lab, name):
    """A file of the node's CNI folder."""
    with open(lab.node("node1").namespace.path(f"/etc/cni/net.d/{name}"), encoding="utf-8") as file:
        return file.read()


def the_overlap(lab):
    """10.1.0.0/16 beside 10.1.2.0/16, as the chapter prints it."""
    nodes = [
        Node("node1", ("192.168.99.100",), pod_cidrs=("10.1.0.0/16",)),
        Node("node2", ("192.168.99.101",), pod_cidrs=("10.1.2.0/16",)),
    ]
    problems = [problem.message for problem in overlapping(nodes)]
    lab.check(
        "the overlap of 10.1.0.0/16 and 10.1.2.0/16 is found and explained",
        len(problems) == 1 and "overlaps" in problems[0] and "/24" in problems[0],
        "one problem that names both subnets and a way out",
        "; ".join(problems) or "nothing was found",
    )
    with lab.beyond_the_model():  # Who answers an ARP request is in no rule and no route.
        flow = lab.host("node1").send_icmp("10.1.2.5", name="node1 to another node's pod", deadline_s=1.5)
    asked = arp_of(lab)
    lab.check(
        "ignored, it cuts the other node's pods off: this node looks for them on its own bridge",
        "mybridge" in asked and flow.result.outcome != "accepted",
        "ARP requests for 10.1.2.5 on mybridge, and no answer",
        f"ARP on {asked or 'no interface'}; {flow.result.outcome}",
    )


def arp_of(lab):
    """The interface on which node1 asked for 10.1.2.5."""
    wanted = bytes([10, 1, 2, 5])
    frames = lab.observer.evidence().frames
    return ", ".join(
        sorted(
            {
                f.interface
                for f in frames
                if f.node == "node1" and f.data[12:14] == b"\x08\x06" and f.data[38:42] == wanted
            }
        )
    )
