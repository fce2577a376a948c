"""docker0 on two machines: bridge, MASQUERADE, a published port, and why containers of two machines cannot meet.

Docker gives each machine the same private network, 172.17.0.0/16, behind a bridge.  What a
container sends out is masqueraded; who wants to reach one asks the machine's published
port, which is rewritten to the container.  Two machines' containers have addresses of the
same network, often even the same address: one looks for the other on its own bridge and
finds nobody.  Kubernetes therefore gives every pod an address of its own in the cluster.

Try next: the scenario pod-to-pod, where the same two machines' pods meet.
"""

import json

TOPOLOGY = "cloud"
MANIFESTS = []
LEAST_NODES = 2
NETWORK = json.dumps(
    {
        "cniVersion": "0.4.0",
        "name": "bridge",
        "type": "bridge",
        "bridge": "docker0",
        "isGateway": True,
        "ipam": {"type": "host-local", "subnet": "172.17.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]},
    }
)
RULES = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""
CONTAINER = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{hoplab.dev/ip: {address}}}}}
spec: {{nodeName: {node}, containers: [{{name: web, image: hoplab/whoami, ports: [{{containerPort: 80}}]}}]}}
"""


def run(lab):
    """Two machines with docker0, a container on each and one more on the second."""
    for name in ("node1", "node2"):
        lab.use_network(name, "00-docker.conf", NETWORK)
    for name, address, node in (
        ("one", "172.17.0.2", "node1"),
        ("two", "172.17.0.2", "node2"),
        ("three", "172.17.0.3", "node2"),
    ):
        lab.apply(CONTAINER.format(name=name, address=address, node=node))
    for name in ("node1", "node2"):
        machine = lab.node(name).namespace
        # A machine with Docker alone has no ip-masq-agent.
        machine.run(["iptables", "-t", "nat", "-F", "IP-MASQ"])
        machine.run(["iptables-restore", "--noflush"], RULES)
    with lab.beyond_the_model():  # The same address twice: no model of a cluster has that.
        same_address(lab)
        going_out(lab)
        published(lab)
        two_machines(lab)


def same_address(lab):
    """Both machines gave out 172.17.0.2."""
    one, two = lab.pod("one"), lab.pod("two")
    lab.check(
        "containers of two machines have the same address",
        one.ips == two.ips == ("172.17.0.2",) and one.namespace != two.namespace,
        "172.17.0.2 for both",
        f"{one.ips[0]} on node1, {two.ips[0]} on node2",
    )


def going_out(lab):
    """A container asks the world."""
    flow = lab.host("pod/one").send_icmp("203.0.113.10", name="a container to the world")
    gateway = "router" if lab.cluster.options.mode == "passthrough" else "lb"
    flow.expect_hops("pod/one", "node1", gateway, "client", name="what goes out is routed by its machine")
    flow.expect_masquerade(on="node1", name="outside it has the machine's address")
    flow.expect_source_seen("10.240.0.11", at="client", name="the world sees node1, not 172.17.0.2")
    flow.expect_reply_undone(name="the answer is rewritten back to the container")


def published(lab):
    """docker run -p 8080:80."""
    for node, pod in (("node1", "pod/one"), ("node2", "pod/two")):
        flow = lab.host("client").send_tcp(lab.node(node), 8080, name=f"the published port of {node}")
        flow.expect_hops("client", "lb", node, pod, name=f"{node}:8080 leads to its own container")
        flow.expect_dnat(on=node, to="172.17.0.2", port=80, name=f"{node} rewrites the destination")
        flow.expect_source_seen("203.0.113.10", at=pod, name=f"the container of {node} sees the client itself")
        flow.expect_reply_undone(name=f"the client gets its answer from {node}:8080")


def two_machines(lab):
    """Directly they cannot meet; by the published port they can."""
    flow = lab.host("node1").send_icmp("172.17.0.3", name="node1 to a container of node2", deadline_s=1.5)
    interfaces = asked_on(lab, bytes([172, 17, 0, 3]))
    lab.check(
        "172.17.0.3 runs on node2, and node1 looks for it on its own docker0",
        interfaces == {"docker0"} and flow.result.outcome != "accepted",
        "ARP requests for 172.17.0.3 on docker0 alone, and no answer",
        f"ARP on {', '.join(sorted(interfaces)) or 'no interface'}; {flow.result.outcome}",
    )
    around = lab.host("pod/one").send_tcp(lab.node("node2"), 8080, name="a container to the other machine's port")
    around.expect_hops("pod/one", "node1", "node2", "pod/two", name="by the published port they meet")
    around.expect_masquerade(on="node1", name="as two machines that talk to each other")
    around.expect_source_seen("10.240.0.11", at="pod/two", name="container two sees node1 as its client")


def asked_on(lab, address):
    """Interfaces of node1 by which an ARP request for this address left."""
    frames = lab.observer.evidence().frames
    return {
        frame.interface
        for frame in frames
        if frame.node == "node1"
        and frame.direction == "out"
        and not frame.interface.startswith("veth")
        and frame.data[12:14] == b"\x08\x06"
        and frame.data[38:42] == address
    }
