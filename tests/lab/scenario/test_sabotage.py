"""A verdict can fail: each thing that is broken on purpose turns the run red, by the check that is about it.

A failed check must say what was expected and what was seen, and where: every one of
them is held to that as well.
"""

import pytest

from hoplab.net.netlink import write_sysctls
from hoplab.net.podconfig import wrong_source_rules
from tests.lab.scenario.labrun import run_scenario

pytestmark = pytest.mark.lab


def nat_rules(lab, node, part):
    """The rules of a node's nat table that contain `part`, as iptables-save prints them."""
    listing = lab.node(node).namespace.run(["iptables-save", "-t", "nat"]).stdout
    return [line for line in listing.splitlines() if line.startswith("-A ") and part in line]


def change_endpoint(lab, endpoint):
    """Have every node rewrite Service B's packets to another address and port."""
    pod = f"{lab.pod('d').ips[0]}:80"
    for node in lab.cluster.nodes:
        (rule,) = [line for line in nat_rules(lab, node, "--to-destination") if line.endswith(pod)]
        chain = rule.split()[1]
        position = nat_rules(lab, node, f"-A {chain} ").index(rule) + 1
        argv = ["iptables", "-t", "nat", "-R", chain, str(position), "-p", "tcp", "-j", "DNAT"]
        lab.node(node).namespace.run([*argv, "--to-destination", endpoint])


def dnat_to_a_dead_address(lab):
    change_endpoint(lab, "10.1.2.99:80")


def wrong_endpoint_port(lab):
    change_endpoint(lab, f"{lab.pod('d').ips[0]}:81")


def masquerade_removed(lab):
    lab.node("node1").namespace.run(["iptables", "-t", "nat", "-F", "KUBE-POSTROUTING"])


def route_missing(lab):
    lab.node("node1").machine.netlink.remove_route("10.1.2.0/24")


def ip_forward_off(lab):
    write_sysctls(lab.node("node2").namespace, {"net.ipv4.ip_forward": 0})


def balancer_knows_one_node(lab):
    lab.cluster.balancer.drop_candidate("node1")


def reverse_nat_skipped(lab):
    argv = ["iptables", "-t", "raw", "-A", "PREROUTING", "-s", lab.pod("d").ips[0], "-j", "NOTRACK"]
    lab.node("node1").namespace.run(argv)


def second_endpoint_never_picked(lab):
    pod = lab.pod("b").ips[0]
    for node in lab.cluster.nodes:
        (rule,) = [line for line in nat_rules(lab, node, f'-> {pod}:80"') if line.startswith("-A KUBE-SVC-")]
        chain = rule.split()[1]
        position = nat_rules(lab, node, f"-A {chain} ").index(rule) + 1
        lab.node(node).namespace.run(["iptables", "-t", "nat", "-D", chain, str(position)])


def health_check_always_passes(lab):
    lab.cluster.balancer.always_healthy = True


def pod_answers_with_a_wrong_source(lab):
    pod = lab.pod("d")
    pod.namespace.run(["nft", "-f", "-"], wrong_source_rules(pod.ips[0], "10.1.2.77"))


def pod_does_not_serve(lab):
    agent, pod = lab.node("node2"), lab.pod("d")
    for container in list(pod.servers):
        agent.stop_server(pod, container)


def balancer_changes_nothing(lab):
    lab.cluster.balancer.machine.namespace.run(["nft", "flush", "ruleset"])


SABOTAGES = [
    (dnat_to_a_dead_address, "2. node1 rewrites the destination to pod d", "10.1.2.99:80"),
    (masquerade_removed, "2. node1 masquerades, so that the answer comes back to it", "source"),
    (route_missing, "3. node2 delivers the packet to pod d", "client -> lb -> node1"),
    (ip_forward_off, "3. node2 delivers the packet to pod d", "client -> lb -> node1 -> node2"),
    (balancer_knows_one_node, "the balancer picks node1", "node2"),
    (reverse_nat_skipped, "6. source and destination are undone, back to the client", ""),
    (wrong_endpoint_port, "2. node1 rewrites the destination to pod d", ":81"),
    (second_endpoint_never_picked, "service-a through node1 is answered by all three pods", "a: "),
    (health_check_always_passes, "a node whose health check fails gets no new flow", "node1"),
    (pod_answers_with_a_wrong_source, "3. pod d answers", ""),
    (pod_does_not_serve, "3. pod d answers", "rejected"),
    (balancer_changes_nothing, "1. the balancer picks a node: node1", ""),
]


REASONS = {
    dnat_to_a_dead_address: ("no-arp-answer", "node2"),
    masquerade_removed: ("answer-bypasses-nat", "node1"),
    route_missing: ("no-route", "node1"),
    ip_forward_off: ("forwarding-off", "node2"),
    balancer_knows_one_node: ("health-check", "lb"),
    reverse_nat_skipped: ("rule", "node1"),
    wrong_endpoint_port: ("port-closed", "pod/d"),
    second_endpoint_never_picked: ("uneven-choice", "node1"),
    health_check_always_passes: ("health-check", "lb"),
    pod_answers_with_a_wrong_source: ("wrong-source", "pod/d"),
    pod_does_not_serve: ("port-closed", "pod/d"),
    balancer_changes_nothing: ("not-rewritten", "lb"),
}
"""What is at fault, and where: the failed check has to say so."""


@pytest.mark.parametrize(("sabotage", "check", "seen"), SABOTAGES, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_broken_is_found_by_the_check_that_is_about_it(sabotage, check, seen, tmp_path):
    report = run_scenario("external-lb", tmp_path, sabotage)

    assert not report.passed
    failed = {one.name: one for one in report.checks if not one.passed}
    assert check in failed, f"failed instead: {sorted(failed)}"
    assert seen in failed[check].observed
    for one in failed.values():
        assert one.expected
        assert one.observed
        assert one.expected != one.observed
    assert REASONS[sabotage] in [(reason.cause, reason.node) for reason in failed[check].reasons]
    told = [reason for flow in report.flows for reason in flow.reasons] + list(report.reasons)
    assert all(reason.decided and reason.evidence and reason.next_step for reason in told)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"balancer": "round-robin"},
        {"proxy_mode": "nftables"},
        {"fabric": "vxlan"},
        {"nodes": 3, "provider": "aws"},
        {"balancer_mode": "passthrough"},
        {"balancer_mode": "passthrough", "balancer": "round-robin", "proxy_mode": "nftables"},
    ],
    ids=str,
)
def test_a_sound_lab_passes_whatever_was_chosen(options, tmp_path):
    report = run_scenario("external-lb", tmp_path, **options)

    assert [f"{one.name}: {one.observed}" for one in report.checks if not one.passed] == []
    assert report.passed
    assert len(report.checks) >= 25
