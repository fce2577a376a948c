"""A pod asks its own Service and reaches itself: by a bridge port in hairpin mode and a masquerade, each necessary.

The packet leaves the pod for the cluster IP, the node rewrites the destination to that
very pod, and the bridge has to send it out of the port it came in by, which bridges refuse
unless the port is in hairpin mode.  And the source has to become the node's: a pod that
gets a packet from its own address answers itself, and the answer never passes the node
that would have to rewrite it back.  Both are taken away here, one at a time, and given back.

Try next: `--proxy-mode nftables`; the scenario cni, whose k8s.conf has no hairpinMode.
"""

MANIFESTS = ["hairpin.yaml"]
QUIET = {"deadline_s": 0.4}


def run(lab):
    """With both, without the one, without the other, with both again."""
    echo, service = lab.host("pod/echo"), lab.service("echo").at_cluster_ip()
    guest = lab.host("pod/guest").send_tcp(service, name="another pod asks")
    guest.expect_hops("pod/guest", "node1", "pod/echo", name="another pod reaches it the usual way")
    guest.expect_no_masquerade(on="node1", name="another pod keeps its address")
    works(lab, echo.send_tcp(service, name="the pod asks its own Service"), "")
    without_the_port_flag(lab, echo, service)
    without_the_masquerade(lab, echo, service)
    works(lab, echo.send_tcp(service, name="the pod asks its own Service again"), " again")


def works(lab, flow, again):
    """Both are in place."""
    flow.expect_hops("pod/echo", "node1", "pod/echo", name=f"a pod reaches itself through its Service{again}")
    flow.expect_masquerade(on="node1", name=f"its own address is hidden from it{again}")
    flow.expect_reply_undone(name=f"its answer comes back as the Service's{again}")


def port_of(lab):
    """The node's interface that the pod hangs on, as frames show it; '' when none does."""
    flow = lab.host("pod/guest").send_tcp(lab.pod("echo"), 80, name="which port the pod hangs on")
    hop = flow.hop("node1")
    return (hop and hop.out_interface) or ""


def without_the_port_flag(lab, echo, service):
    """Hairpin mode off at the pod's port of the bridge."""
    node, port = lab.node("node1").namespace, port_of(lab)
    lab.check("a frame shows which port the pod hangs on", bool(port), "a port of node1's bridge", port or "none")
    if not port:
        return
    node.run(["bridge", "link", "set", "dev", port, "hairpin", "off"])
    with lab.beyond_the_model():  # It knows rules and routes; which port a bridge sends to is none of both.
        flow = echo.send_tcp(service, name="without hairpin mode", **QUIET)
    flow.expect_outcome("unanswered", name="without hairpin mode the pod hears nothing")
    address = lab.pod("echo").ips[0]
    flow.expect_rule(on="node1", text=f"{address}:80", name="the rules send the packet to the pod as ever")
    came_back = [hop for hop in flow.flow.forward[1:] if hop.node == "pod/echo"]
    lab.check(
        "but no frame leaves by the port that it came in by",
        not came_back and flow.nodes == ("pod/echo", "node1"),
        "seen in pod/echo and node1, and not again in pod/echo",
        " -> ".join(flow.nodes),
        [f"frame {number}" for hop in flow.flow.forward for number in hop.frames],
    )
    node.run(["bridge", "link", "set", "dev", port, "hairpin", "on"])


def without_the_masquerade(lab, echo, service):
    """The rules that mark such packets for masquerade taken out of the node."""
    node, mode = lab.node("node1").namespace, lab.cluster.options.proxy.mode
    pod = lab.pod("echo").ips[0]
    if mode == "iptables":
        saved = node.run(["iptables-save", "-t", "nat"]).stdout
        kept = [
            line
            for line in saved.splitlines()
            if not ("KUBE-SEP-" in line.split(" -s ")[0] and f"-s {pod}/32" in line and "KUBE-MARK-MASQ" in line)
        ]
        node.run(["iptables-restore"], "\n".join(kept) + "\n")
    else:
        listed = node.run(["nft", "-a", "list", "table", "ip", "kube-proxy"]).stdout.splitlines()
        chain = ""
        for line in listed:
            words = line.split()
            if words[:1] == ["chain"]:
                chain = words[1]
            elif f"ip saddr {pod} jump mark-for-masquerade" in line:
                node.run(["nft", "delete", "rule", "ip", "kube-proxy", chain, "handle", words[-1]])
    with lab.beyond_the_model():  # What a pod does with a packet from itself is its kernel's matter.
        flow = echo.send_tcp(service, name="without the masquerade", **QUIET)
    lab.check(
        "without the masquerade the pod is not answered by its Service",
        flow.flow.outcome != "accepted",
        "no answer from the Service's address",
        f"{flow.flow.outcome}: {flow.flow.reason}",
    )
    strange = [
        hop
        for hop in flow.flow.forward[1:]
        if hop.node == "pod/echo" and hop.before.src == pod and hop.before.dst == pod
    ]
    lab.check(
        "the pod gets a packet that seems to come from itself",
        bool(strange),
        f"a frame from {pod} to {pod} comes into the pod",
        f"{strange[0].before.src} -> {strange[0].before.dst}" if strange else " -> ".join(flow.nodes),
        [f"frame {number}" for hop in strange for number in hop.frames],
    )
    lab.node("node1").proxy.forget()
    lab.cluster.converge()
