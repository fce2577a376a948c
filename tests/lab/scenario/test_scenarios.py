"""Every scenario passes as it is, in both proxy modes, and each can fail: one thing broken turns its own check red."""

from __future__ import annotations

import pytest

from hoplab.cluster.ingress import exchanged, workers
from hoplab.ingress import nginx
from hoplab.scenario import scripts
from tests.lab.scenario.labrun import run_scenario

pytestmark = pytest.mark.lab

SCENARIOS = [name for name in scripts.names() if name != "external-lb"]
"""external-lb has a file of its own: test_sabotage.py."""


def failed(report):
    return [check.name for check in report.checks if not check.passed]


TWO_WITH_ONE_ADDRESS = ("docker-bridge",)
"""Where it is the lesson that machines use the same subnet, and the reason says so of every flow."""


def ask_why(lab):
    """Have the kernels asked about flows that were answered as well: nothing may be found.

    What an ingress controller could not pass on is the exception: its 502 has a reason, the pod's.
    """
    plain = type(lab).send_probes

    def send(lab, probes, **options):
        sent = plain(lab, probes, **options)
        for one in [each for each in sent if each.flow.outcome == "accepted"][:2]:
            found = [(reason.cause, reason.node) for reason in lab.why(one.flow)]
            if one.flow.response.startswith("HTTP/1.1 502"):
                port_closed = [cause for cause, node in found if node.startswith("pod/")] == ["port-closed"]
                lab.check("the reason of a 502 is a closed port", port_closed, "port-closed in a pod", found)
            elif found and not one.flow.response.startswith("HTTP/1.1 5"):
                lab.check(f"{one.flow.name}: answered, so nothing is wrong", False, "no reason", found)
        return sent

    # This process is a sandbox of its own: the class goes with it.
    type(lab).send_probes = send


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_passes(name, mode, tmp_path):
    report = run_scenario(name, tmp_path, None if name in TWO_WITH_ONE_ADDRESS else ask_why, proxy_mode=mode)
    assert failed(report) == []
    assert [reason for flow in report.flows for reason in flow.reasons] == []
    assert report.reasons == ()
    if name == "ingress":
        assert "the reason of a 502 is a closed port" in [check.name for check in report.checks]
    assert len(report.checks) >= 7


@pytest.mark.parametrize("name", ["pod-to-pod", "node-port", "service-without-selector"])
def test_it_passes_over_an_overlay(name, tmp_path):
    assert failed(run_scenario(name, tmp_path, fabric="vxlan")) == []


def test_the_chapters_chain_names(tmp_path):
    report = run_scenario("pod-to-service", tmp_path, kubernetes="1.7")
    assert failed(report) == []
    assert "the chains are those of the chapter's listing" in [check.name for check in report.checks]


def edit_nat(lab, node, change):
    """Load a node's nat table with some lines changed; None leaves a line out."""
    namespace = lab.node(node).namespace
    lines = [change(line) for line in namespace.run(["iptables-save", "-t", "nat"]).stdout.splitlines()]
    namespace.run(["iptables-restore"], "\n".join(line for line in lines if line is not None) + "\n")


def masquerade_everything(lab, node):
    lab.node(node).namespace.run(["iptables", "-t", "nat", "-I", "POSTROUTING", "-j", "MASQUERADE"])


def no_mark(lab):
    lab.node("node1").namespace.run(["iptables", "-t", "nat", "-F", "KUBE-MARK-MASQ"])


def loaded_dice(lab):
    edit_nat(lab, "node1", lambda line: line.replace("--probability 0.5", "--probability 0.05"))


def source_hidden(lab):
    masquerade_everything(lab, "node2")


def nothing_remembered(lab):
    edit_nat(lab, "node1", lambda line: None if "--rcheck" in line else line)


def no_hairpin(lab):
    node = lab.node("node1").namespace
    for line in node.run(["bridge", "link", "show"]).stdout.splitlines():
        node.run(["bridge", "link", "set", "dev", line.split()[1].partition("@")[0].rstrip(":"), "hairpin", "off"])


def nobody_refuses(lab):
    lab.node("node1").namespace.run(["iptables", "-F", "KUBE-SERVICES"])


def entries_kept(lab):
    for agent in lab.cluster.nodes.values():
        agent.proxy._remove_stale_entries = lambda family, seen: None


def pods_masqueraded(lab):
    masquerade_everything(lab, "node1")


def balancer_ignores_health(lab):
    lab.cluster.balancer.always_healthy = True


def no_cni_chains(lab):
    lab.node("node1").namespace.run(["iptables", "-t", "nat", "-F", "POSTROUTING"])


def containers_locked_in(lab):
    lab.node("node1").namespace.run(["iptables", "-I", "FORWARD", "-s", "172.17.0.0/16", "-j", "DROP"])


def client_not_named(lab):
    """Take the header away that tells pods who the client is."""
    pod = lab.pod("nginx-ingress-controller", "kube-system").namespace
    with open(pod.path(nginx.CONFIG)) as file:
        text = file.read()
    program = lab.cluster.containers.program(pod, "nginx-ingress-controller")
    before = workers(program.pid)
    program.reload({nginx.CONFIG: text.replace("proxy_set_header X-Forwarded-For $remote_addr;", "")})
    program.wait_until(lambda: exchanged(program.pid, before), 5, "new workers")


def zones_never_change(lab):
    lab.cluster.programs.names.sync = lambda *_: False


def no_search(lab):
    path = lab.pod("asker").namespace.path("/etc/resolv.conf")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("ndots:5", "ndots:1"))


def rules_frozen(lab):
    for agent in lab.cluster.nodes.values():
        agent.proxy.start_sync = lambda *_objects: False


SABOTAGES = {
    "dns": (no_search, "ndots:5: a name of the world is asked for three times in vain first"),
    "ingress": (client_not_named, "X-Forwarded-For tells it who the client is"),
    "node-port": (no_mark, "node1 puts itself in as the source"),
    "pod-to-service": (loaded_dice, "the dice are fair: statistic probability 0.5"),
    "external-policy-local": (source_hidden, "policy Local: node2 leaves the source alone"),
    "session-affinity": (nothing_remembered, "24 flows of one client through node1 meet one pod"),
    "hairpin": (no_hairpin, "a pod reaches itself through its Service"),
    "service-without-selector": (nobody_refuses, "without endpoints the Service refuses: by a rule of node1"),
    "udp-conntrack": (entries_kept, "with the cleanup the old port is served by the new pod"),
    "pod-to-pod": (pods_masqueraded, "other node: nothing is rewritten"),
    "health-check": (balancer_ignores_health, "from then on no flow is handed to it"),
    "cni": (no_cni_chains, "first: its own chain CNI-25df152800e33f7b16fc085a takes it"),
    "rolling-update": (rules_frozen, "done right, no request fails while all pods are replaced"),
    "docker-bridge": (containers_locked_in, "what goes out is routed by its machine"),
}


def test_every_scenario_has_a_sabotage():
    assert sorted(SABOTAGES) == sorted(SCENARIOS)


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_turns_the_right_check_red(name, tmp_path):
    sabotage, expected = SABOTAGES[name]
    report = run_scenario(name, tmp_path, sabotage)
    assert not report.passed
    assert expected in failed(report)
    for check in report.checks:
        assert check.expected
        assert check.observed


def test_names_that_do_not_follow_a_change(tmp_path):
    assert "and `db-0.db` is nobody any more" in failed(run_scenario("dns", tmp_path, zones_never_change))


MIXED = {"balancer_mode": "proxy", "balancer": "round-robin", "fabric": "vxlan", "nodes": 3, "seed": 11}
"""Far from the defaults, all at once.  (A rollout takes seconds however it is looked at, and no proxy.)"""


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "rolling-update"])
def test_it_passes_far_from_the_defaults(name, tmp_path):
    terms = scripts.terms(name)
    single = terms.topology == "single"
    refused = {key for words in terms.without for key in MIXED if words.startswith(f"--{key.replace('_', '-')} ")}
    options = {"seed": 11} if single else {key: value for key, value in MIXED.items() if key not in refused}
    assert failed(run_scenario(name, tmp_path, **options)) == []
