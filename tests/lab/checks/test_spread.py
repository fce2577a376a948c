"""A probability that is not the one that kube-proxy writes is found, in both modes, by the spread of real flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab.checks.parse import read_all
from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab

FILE = Path(__file__).resolve().parents[2] / "conformance" / "even-shares.yaml"


def run(mode, captures, sabotage=None):
    [file] = read_all([FILE], mode)

    def inside():
        from hoplab.net.zygote import Zygote
        from hoplab.probe.crafter import CrafterProcess

        zygote, crafter = Zygote(), CrafterProcess()
        from hoplab.checks.running import run as run_file

        return run_file(file, captures, zygote, crafter, sabotage).report

    return in_sandbox(inside)


def uneven_iptables(lab):
    """Of three endpoints the first gets one flow of twenty instead of one of three."""
    node = lab.node("node1").namespace
    text = node.run(["iptables-save", "-t", "nat"]).stdout
    [rule] = [line for line in text.splitlines() if "default/of-3" in line and "--probability 0.3333" in line]
    node.run(["iptables-restore"], text.replace(rule, rule.replace("--probability 0.3333", "--probability 0.0500")))


def uneven_nftables(lab):
    """Of three endpoints one has eight of ten places."""
    node = lab.node("node1").namespace
    lines = node.run(["nft", "list", "table", "ip", "kube-proxy"]).stdout.splitlines()
    [at] = [number for number, line in enumerate(lines) if "numgen random mod 3 vmap" in line]
    chain = next(line.split()[1] for line in reversed(lines[:at]) if line.strip().startswith("chain "))
    first, second, third = lines[at].partition("{")[2].rstrip(" }").split(", ")
    goto = first.partition(" : ")[2]
    places = ", ".join([first, second, third, *(f"{number} : {goto}" for number in range(3, 10))])
    rule = f"add rule ip kube-proxy {chain} numgen random mod 10 vmap {{ {places} }}"
    node.run(["nft", "-f", "-"], f"flush chain ip kube-proxy {chain}\n{rule}\n")


@pytest.mark.parametrize(("mode", "sabotage"), [("iptables", uneven_iptables), ("nftables", uneven_nftables)])
def test_a_sabotaged_probability_is_found(mode, sabotage, tmp_path):
    report = run(mode, tmp_path, sabotage)
    failed = {check.name for check in report.checks if not check.passed}
    assert failed == {"3 endpoints: spread"}
