"""Pods get their network from the real CNI plugins, by the chapter's own configuration."""

import json
from pathlib import Path

import pytest

from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab

SEED = Path(__file__).resolve().parents[2] / "fixtures" / "seed"
IDS = (
    "328287949eb4d4483a3a8035d65cc326417ae7384270844e59c2f4e963d87e18",
    "08c562ff4d67496fdae1c08facb2766ca30533552b8bd0682630f203b18f8c0a",
)
CHAINS = ("CNI-25df152800e33f7b16fc085a", "CNI-f1931fed74271104c4d10006")


def with_two_pods(act):
    """Run `act(node, runtime, attachments)` on a node with two pod sandboxes and the chapter's k8s.conf."""

    def inside():
        from hoplab.net.cni import Attachment, CniRuntime, read_config, write_config
        from hoplab.net.namespaces import Namespace
        from hoplab.net.zygote import NodeSpec, PodSpec, Zygote

        zygote = Zygote()
        node = Namespace("node1", zygote.nodes([NodeSpec("node1")])[0], "node")
        zygote.pods([PodSpec(f"pod/p{n}", node.pid, f"cni-{n}", f"p{n}", {}) for n in (0, 1)])
        write_config(node, "k8s.conf", (SEED / "k8s.conf").read_text())
        config = read_config(node)
        attachments = [
            Attachment(node, config, f"pod/p{n}", IDS[n], f"/run/netns/cni-{n}", "eth0", {"IP": f"10.1.0.{4 + n}"})
            for n in (0, 1)
        ]
        return act(node, CniRuntime(), attachments)

    return in_sandbox(inside)


def test_k8s_conf_as_printed_makes_the_chapters_chains():
    def act(node, runtime, attachments):
        results = runtime.add(attachments)
        return [results[i].addresses for i in IDS], node.run(["iptables", "-t", "nat", "-nL", "POSTROUTING"]).stdout

    addresses, listing = with_two_pods(act)
    assert addresses == [("10.1.0.4/16",), ("10.1.0.5/16",)]
    for chain, identity in zip(CHAINS, IDS, strict=True):
        assert any(
            chain in line and f'name: "rkt.kubernetes.io" id: "{identity}"' in line for line in listing.splitlines()
        )


def test_pods_that_come_together_get_their_addresses_in_their_order():
    def inside():
        from hoplab.net.cni import Attachment, CniRuntime, read_config, write_config
        from hoplab.net.namespaces import Namespace
        from hoplab.net.zygote import NodeSpec, PodSpec, Zygote

        zygote, pods = Zygote(), [f"p{n}" for n in range(6)]
        nodes = [
            Namespace(n, pid, "node") for n, pid in zip("ab", zygote.nodes([NodeSpec(n) for n in "ab"]), strict=True)
        ]
        specs = [PodSpec(f"pod/{p}", node.pid, f"cni-{p}", p, {}) for p in pods for node in nodes]
        zygote.pods(specs)
        for node in nodes:
            write_config(node, "k8s.conf", (SEED / "k8s.conf").read_text())
        wanted = [
            Attachment(node, read_config(node), f"pod/{p}", f"{node.name}{p}", f"/run/netns/cni-{p}")
            for p in pods
            for node in nodes
        ]
        results = CniRuntime().add(wanted)
        return [[results[f"{node.name}{p}"].ips for p in pods] for node in nodes]

    expected = [(f"10.1.0.{2 + n}",) for n in range(6)]
    assert in_sandbox(inside) == [expected, expected]


def test_del_frees_the_address_and_may_be_repeated():
    def act(node, runtime, attachments):
        runtime.add(attachments)
        leases = sorted(Path(node.path("/var/lib/cni/networks/rkt.kubernetes.io")).glob("10.*"))
        first, second = runtime.delete(attachments), runtime.delete(attachments)
        left = sorted(Path(node.path("/var/lib/cni/networks/rkt.kubernetes.io")).glob("10.*"))
        return len(leases), len(left), first, second, node.run(["iptables-save", "-t", "nat"]).stdout

    leases, left, first, second, rules = with_two_pods(act)
    assert (leases, left, first, second) == (2, 0, [], [])
    assert "CNI-" not in rules


def test_a_plugins_error_arrives_with_step_words_and_pod():
    def act(_node, runtime, attachments):
        runtime.add(attachments)
        errors = runtime.add(attachments[:1])
        return str(errors[IDS[0]])

    text = with_two_pods(act)
    assert text.startswith("CNI ADD for pod/p0: plugin bridge: ")
    assert "already exists" in text


def test_check_on_a_configuration_without_version_is_refused_by_the_plugin():
    def act(_node, runtime, attachments):
        from hoplab.net.cni import CniError

        results = runtime.add(attachments)
        try:
            runtime.check(attachments[0], results[IDS[0]])
        except CniError as error:
            return str(error)
        return ""

    assert with_two_pods(act) == "CNI CHECK for pod/p0: plugin bridge: config version does not allow CHECK [code 1]"


def test_an_unknown_plugin_names_where_it_was_looked_for():
    def act(node, runtime, attachments):
        from dataclasses import replace

        from hoplab.net.cni import parse_config

        config = parse_config(json.dumps({"name": "n", "type": "no-such-plugin"}), "x.conf")
        return str(runtime.add([replace(attachments[0], config=config)])[IDS[0]])

    text = with_two_pods(act)
    assert "plugin no-such-plugin: no program of that name in /opt/cni/bin" in text
    assert "pod/p0" in text
