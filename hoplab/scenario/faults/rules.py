"""Faults of rules: on a node, in a pod, in the balancer.

Rules are changed as they stand in the kernel, behind the back of whoever wrote them, by the programs with which an
administrator would do it, and put back in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hoplab.net.namespaces import Namespace
from hoplab.net.netlink import write_sysctls
from hoplab.scenario.faults.kinds import (
    WAIT_S,
    Fault,
    Truth,
    Where,
    ask_node_port,
    ask_service,
    fault,
    reload_rules,
    until_lost,
)
from hoplab.scenario.lab import Lab
from hoplab.scenario.sent import Sent


def _iptables(lab: Lab) -> bool:
    return lab.cluster.options.proxy.mode == "iptables"


def edit_nat(namespace: Namespace, change: Callable[[str], str | None]) -> None:
    """Load the nat table with some of iptables-save's lines changed; None leaves a line out."""
    lines = [change(line) for line in namespace.run(["iptables-save", "-t", "nat"]).stdout.splitlines()]
    namespace.run(["iptables-restore"], "\n".join(line for line in lines if line is not None) + "\n")


def edit_nftables(namespace: Namespace, change: Callable[[str], str | None]) -> None:
    """Replace rules of kube-proxy's table; `change` gets a rule's text and gives the new one, or None to keep it."""
    chain, edits = "", []
    for line in namespace.run(["nft", "-a", "list", "table", "ip", "kube-proxy"]).stdout.splitlines():
        text, _, handle = line.strip().partition(" # handle ")
        if text.startswith("chain "):
            chain = text.split()[1]
        elif handle and (new := change(text)) is not None:
            edits.append(f"replace rule ip kube-proxy {chain} handle {handle} {new}\n" if new else "")
            if not new:
                edits.append(f"delete rule ip kube-proxy {chain} handle {handle}\n")
    namespace.run(["nft", "-f", "-"], "".join(edits))


@fault("forward-policy", 3, "nothing crosses nodes")
def forward_policy(lab: Lab, where: Where) -> Iterator[Truth]:
    """The near node's FORWARD chain drops what no rule accepts (as Docker leaves it)."""
    node = lab.node(where.near).namespace
    node.run(["iptables", "-P", "FORWARD", "DROP"])
    yield Truth("policy", where.near, ("FORWARD",), ask_service(lab, where))
    node.run(["iptables", "-P", "FORWARD", "ACCEPT"])


@fault("endpoint-rule-missing", 5, "one of n requests is lost or refused")
def endpoint_rule_missing(lab: Lab, where: Where) -> Iterator[Truth]:
    """The rule that takes what no other endpoint's did is gone."""
    node, label = lab.node(where.near).namespace, f"default/{where.many}"
    if _iptables(lab):

        def without_last(line: str) -> str | None:
            last = line.startswith("-A KUBE-SVC-") and f'"{label} -> ' in line and "--probability" not in line
            return None if last else line

        edit_nat(node, without_last)
    else:

        def one_more(text: str) -> str | None:
            return text.replace("mod 3 ", "mod 4 ") if "numgen random mod 3 vmap" in text else None

        edit_nftables(node, one_more)
    yield Truth("no-endpoint-chosen", where.near, (label,), until_lost(lab, f"pod/{where.asker}", where.many))
    reload_rules(lab, where.near)


@fault("loaded-dice", 5, "one pod gets nearly all of the requests")
def loaded_dice(lab: Lab, where: Where) -> Iterator[Truth]:
    """The first probability is wrong, so that the endpoints' shares are uneven."""
    node = lab.node(where.near).namespace
    if _iptables(lab):
        edit_nat(node, lambda line: line.replace("--probability 0.33", "--probability 0.9"))
    else:

        def loaded(text: str) -> str | None:
            if "numgen random mod 3 vmap" not in text:
                return None
            elements = text.partition("{")[2].partition("}")[0].split(",")
            to = [one.partition(":")[2].strip() for one in elements]
            turns = enumerate([to[0]] * 10 + to[1:])
            return f"numgen random mod 12 vmap {{ {', '.join(f'{n} : {target}' for n, target in turns)} }}"

        edit_nftables(node, loaded)

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(where.many).at_cluster_ip()
            return lab.host(f"pod/{where.asker}").send_many(to, 60, half_open=True, deadline_s=WAIT_S)[-1]

    yield Truth("uneven-choice", where.near, (f"default/{where.many}",), send)
    reload_rules(lab, where.near)


@fault("no-masquerade", 6, "the client is connected to nobody, or resets")
def no_masquerade(lab: Lab, where: Where) -> Iterator[Truth]:
    """Nothing marks a node port's packets for masquerade."""
    node = lab.node(where.near).namespace
    if _iptables(lab):
        node.run(["iptables", "-t", "nat", "-F", "KUBE-MARK-MASQ"])
    else:
        node.run(["nft", "flush", "chain", "ip", "kube-proxy", "mark-for-masquerade"])
    yield Truth("answer-bypasses-nat", where.near, (f"default/{where.service}",), ask_node_port(lab, where))
    reload_rules(lab, where.near)


@fault("health-check-ignored", 9, "a fixed share of the clients is never answered")
def health_check_ignored(lab: Lab, where: Where) -> Iterator[Truth]:
    """The balancer takes every node for healthy, under externalTrafficPolicy Local."""
    balancer = lab.cluster.balancer
    if balancer is None:
        raise ValueError("this topology has no balancer")
    balancer.always_healthy = True
    lab.check_health()

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(where.local)
            return lab.host("client").send_tcp(to, balancer_picks=where.near, deadline_s=WAIT_S)

    yield Truth("health-check", "lb", (f"default/{where.local}",), send)
    balancer.always_healthy = False
    lab.check_health()


@fault("no-candidates", 0, "the balancer answers nobody")
def no_candidates(lab: Lab, where: Where) -> Iterator[Truth]:
    """Every node fails its health check."""
    for agent in lab.cluster.nodes.values():
        agent.healthy = False
    lab.check_health()

    def send() -> Sent:
        with lab.beyond_the_model():
            return lab.host("client").send_tcp(lab.service(where.service), deadline_s=WAIT_S)

    yield Truth("no-candidates", "lb", (f"default/{where.service}",), send)
    for agent in lab.cluster.nodes.values():
        agent.healthy = True
    lab.check_health()


@fault("per-packet-balancing", 10, "a connection is made, then reset")
def per_packet_balancing(lab: Lab, where: Where) -> Iterator[Truth]:
    """The balancer hands packets in turn to the nodes, whatever connection they belong to."""
    service = lab.service(where.service)
    nodes = [lab.node(name).node.addresses[0] for name in (where.near, where.far)]
    turns = ", ".join(f"{index} : {address}" for index, address in enumerate(nodes))
    balancer = lab.cluster.net["lb"].namespace
    text = (
        "table ip per_packet {\n\tchain prerouting {\n\t\ttype filter hook prerouting priority -310; policy accept;\n"
        f"\t\tip daddr {service.vip} tcp dport {service.port.port} notrack ip daddr set numgen inc mod {len(nodes)} map"
        f' {{ {turns} }} tcp dport set {service.node_port} comment "packets in turn"\n'
        f"\t\tip saddr {{ {', '.join(nodes)} }} tcp sport {service.node_port} notrack ip saddr set {service.vip}"
        f" tcp sport set {service.port.port}\n\t}}\n}}\n"
    )
    balancer.run(["nft", "-f", "-"], text)

    def send() -> Sent:
        with lab.beyond_the_model():
            return lab.host("client").send_tcp(service, deadline_s=WAIT_S)

    yield Truth("per-packet-balancing", "lb", (service.vip,), send)
    balancer.run(["nft", "delete", "table", "ip", "per_packet"])


@fault("egress-without-dns", 15, "names are not found, addresses work")
def egress_without_dns(lab: Lab, where: Where) -> Iterator[Truth]:
    """A policy for what pods send forgot the name server."""
    node, address = lab.node(where.near).namespace, lab.pod(where.asker).ips[0]
    rule = ["FORWARD", "-s", address, "-p", "udp", "--dport", "53", "-m", "comment", "--comment", "default deny egress"]
    node.run(["iptables", "-I", *rule, "-j", "DROP"])

    def send() -> Sent:
        with lab.beyond_the_model():
            to = lab.service(where.udp).at_cluster_ip()
            return lab.host(f"pod/{where.asker}").send_udp(to, deadline_s=WAIT_S)

    yield Truth("rule", where.near, ("default deny egress",), send)
    node.run(["iptables", "-D", *rule, "-j", "DROP"])


def _far_ahead() -> str:
    """nft text: segments with data have sequence numbers that are between a quarter and half of the circle ahead.

    What is behind the window counts as sent again, and connection tracking lets it pass.
    """
    quarter = 1 << 30
    rules = "".join(
        f"\t\ttcp sport 80 tcp flags & (psh | syn) == psh tcp sequence {n * quarter}-{(n + 1) * quarter - 1}"
        f" tcp sequence set {((n + 2) * quarter - 1) % (4 * quarter)} accept\n"
        for n in range(4)
    )
    hook = "type filter hook postrouting priority 350; policy accept;"
    return f"table ip hoplab_fault {{\n\tchain out {{\n\t\t{hook}\n{rules}\t}}\n}}\n"


@fault("out-of-window", 17, "connections are reset by the peer")
def out_of_window(lab: Lab, where: Where) -> Iterator[Truth]:
    """A pod's data has sequence numbers from outside of the window, and nothing drops what is invalid."""
    pod = lab.pod(where.pod).namespace
    pod.run(["nft", "-f", "-"], _far_ahead())
    nodes = [lab.node(name).namespace for name in (where.near, where.far)]
    for node in nodes:
        write_sysctls(node, {"net.netfilter.nf_conntrack_tcp_be_liberal": 0})
        if _iptables(lab):
            saved = node.run(["iptables-save", "-t", "filter"]).stdout.splitlines()
            node.run(["iptables-restore"], "\n".join(line for line in saved if "--ctstate INVALID" not in line) + "\n")
        else:
            edit_nftables(node, lambda text: "" if text.startswith("ct state invalid") else None)
    yield Truth("invalid-state", where.near, (f"default/{where.service}",), ask_service(lab, where))
    pod.run(["nft", "delete", "table", "ip", "hoplab_fault"])
    reload_rules(lab, where.near, where.far)


@fault("node-port-blocked", 20, "refused from outside, fine from inside")
def node_port_blocked(lab: Lab, where: Where) -> Iterator[Truth]:
    """A firewall rule of the node stands before kube-proxy's."""
    node, port = lab.node(where.near).namespace, lab.service(where.service).node_port
    rule = [
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        str(port),
        "-m",
        "comment",
        "--comment",
        "host firewall",
        "-j",
        "DROP",
    ]
    node.run(["iptables", "-t", "mangle", "-I", *rule])
    yield Truth("rule", where.near, ("host firewall",), ask_node_port(lab, where))
    node.run(["iptables", "-t", "mangle", "-D", *rule])


FAULTS: tuple[Fault, ...] = (
    forward_policy,
    endpoint_rule_missing,
    loaded_dice,
    no_masquerade,
    health_check_ignored,
    no_candidates,
    per_packet_balancing,
    egress_without_dns,
    out_of_window,
    node_port_blocked,
)
