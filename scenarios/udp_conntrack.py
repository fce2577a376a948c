"""A pod is replaced, and a UDP client goes on talking to the dead one: connection tracking remembers.

A rule decides on the first datagram of a "connection" (same two addresses and ports);
every later one follows the entry that was made then, for as long as the client keeps it
alive.  When the endpoint goes, the entry still points to its address, and the datagrams
vanish there, while a client with another source port is served at once.  kube-proxy
therefore removes such entries when endpoints go.  Here it first forgets to, then does it.

Try next: `--proxy-mode nftables`; a TCP Service, whose new connections always ask the rules.
"""

MANIFESTS = ["udp.yaml"]
LEAST_NODES = 2
PORT = 40053
SUCCESSOR = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: dns}}, annotations: {{hoplab.dev/ip: {address}}}}}
spec:
  nodeName: node2
  containers: [{{name: dns, image: hoplab/whoami, ports: [{{containerPort: 53, protocol: UDP}}]}}]
"""


def run(lab):
    """Served; replaced without the cleanup; replaced with it."""
    asker, service = lab.host("pod/asker"), lab.service("dns").at_cluster_ip()
    proxies = [agent.proxy for agent in lab.cluster.nodes.values()]
    first = ask(lab, asker, service, "the first pod answers", PORT)
    first.expect_endpoint(lab.pod("dns-1"), port=53, name="dns-1 answers port 40053")
    for proxy in proxies:
        proxy.removes_stale_entries = False
    replaced(lab, "dns-1", "dns-2", "10.1.2.32")
    stale(lab, asker, service)
    for proxy in proxies:
        proxy.removes_stale_entries = True
    replaced(lab, "dns-2", "dns-3", "10.1.2.33")
    after = ask(lab, asker, service, "after the cleanup", PORT)
    after.expect_endpoint(lab.pod("dns-3"), port=53, name="with the cleanup the old port is served by the new pod")
    leads(lab, "10.1.2.33", "the entry leads to the pod that is there")


def ask(lab, asker, service, name, port=0):
    """One datagram; a known connection is none of the rules' business, so the model is not asked either."""
    with lab.beyond_the_model():
        return asker.send_udp(service, name=name, source_port=port, deadline_s=0.4)


def replaced(lab, old, new, address):
    """One pod goes, another one comes, at another address."""
    lab.apply(SUCCESSOR.format(name=new, address=address))
    lab.delete_pod(old)


def leads(lab, address, name):
    """Where node1's entry of the old port leads."""
    entries = [e for e in lab.conntrack("node1") if e.original.sport == PORT and e.original.dst == "10.0.0.53"]
    lab.check(
        name,
        bool(entries) and all(entry.reply.src == address for entry in entries),
        f"node1's entry of port {PORT} has its answers come from {address}",
        ", ".join(entry.reply.src for entry in entries) or "no entry",
    )


def stale(lab, asker, service):
    """The old port is swallowed, a new one is served."""
    swallowed = ask(lab, asker, service, "the old port after the pod went", PORT)
    lab.check(
        "without the cleanup the old port is swallowed",
        swallowed.flow.outcome != "accepted",
        "no answer",
        f"{swallowed.flow.outcome}: {swallowed.flow.reason or swallowed.result.pod}",
    )
    dead = swallowed.last.after if swallowed.last else None
    lab.check(
        "it is still sent to the pod that went",
        dead is not None and dead.dst == "10.1.2.31",
        "10.1.2.31, which nobody has any more",
        dead.dst if dead else "no packet was seen",
        [f"frame {number}" for hop in swallowed.flow.forward for number in hop.frames],
    )
    leads(lab, "10.1.2.31", "connection tracking still leads there")
    served = ask(lab, asker, service, "a new port")
    served.expect_endpoint(lab.pod("dns-2"), port=53, name="a new port is served by the new pod at once")
