"""What `lab.py rules` prints: the mode's text, for the families that the node has."""

from dataclasses import replace

import pytest

from hoplab.dataplane import iptables, nftables
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.rules import families_of, render
from hoplab.kube.types import Node
from tests.unit.dataplane.nft_shapes import DUAL_SLICES, DUAL_STACK, NODE

FOUR = replace(NODE, addresses=("192.168.0.2",))
OBJECTS = ((DUAL_STACK,), DUAL_SLICES)


def test_one_family_is_printed_as_it_is_loaded():
    config = ProxyConfig()
    assert render(*OBJECTS, FOUR, config) == iptables.build(*OBJECTS, FOUR, config, "IPv4").text()


def test_two_families_in_iptables_mode_say_which_program_takes_them():
    text = render(*OBJECTS, NODE, ProxyConfig())
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["# IPv4, for iptables-restore --noflush", "# IPv6, for ip6tables-restore --noflush"]
    assert text.count("*nat\n") == 2


def test_two_families_in_nftables_mode_are_one_text():
    text = render(*OBJECTS, NODE, ProxyConfig(mode="nftables"))
    assert "table ip kube-proxy" in text
    assert "table ip6 kube-proxy" in text
    assert render(*OBJECTS, NODE, ProxyConfig(mode="nftables"), "IPv6") in text


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_one_family_of_two_can_be_had_alone(family: str):
    config = ProxyConfig(mode="nftables")
    assert render(*OBJECTS, NODE, config, family) == nftables.build(*OBJECTS, NODE, config, family).text()  # type: ignore[arg-type]


def test_the_node_decides_about_families():
    assert families_of(FOUR) == ["IPv4"]
    assert families_of(Node("six", ("fd00::1", "192.0.2.1"))) == ["IPv4", "IPv6"]
    assert families_of(Node("six", ("fd00::1",))) == ["IPv6"]
    assert families_of(Node("none", ())) == ["IPv4"]
