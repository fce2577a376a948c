"""kube-proxy's settings: what they answer, and what is refused with which words."""

from dataclasses import replace

import pytest

from hoplab.dataplane.config import Conntrack, ProxyConfig
from hoplab.errors import InputError
from hoplab.kube.types import Node

NODE = Node("node1", ("10.240.0.11", "fd00::11"), ("10.240.1.11", "192.0.2.11"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "ipvs"}, "kubeProxy.mode: expected iptables or nftables, found 'ipvs'"),
        ({"masquerade_bit": 32}, "kubeProxy.masqueradeBit: expected 0 to 31, found 32"),
        ({"kubernetes": "1.8"}, "kubernetes: expected 1.33 or 1.7, found '1.8'"),
        ({"kubernetes": "1.7", "mode": "nftables"}, "kubernetes 1.7 has no nftables mode"),
        (
            {"cluster_cidrs": ("10.1.0.0",)},
            "kubeProxy.clusterCIDR: expected a network like 10.1.0.0/16, found '10.1.0.0'",
        ),
        ({"cluster_cidrs": ("pods/16",)}, "kubeProxy.clusterCIDR: expected a network"),
        ({"node_port_addresses": ("10.0.0.0/33",)}, "kubeProxy.nodePortAddresses: expected a network"),
        ({"node_port_addresses": ("primary", "10.0.0.0/8")}, '"primary" stands alone'),
        ({"service_ip_ranges": ("any",)}, "kubeProxy.serviceCIDRs: expected a network"),
    ],
)
def test_what_is_refused(settings: dict[str, object], words: str):
    with pytest.raises(InputError) as error:
        ProxyConfig(**settings)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_each_family_has_its_cluster_cidr():
    config = ProxyConfig(cluster_cidrs=("10.1.0.0/16", "fd00:1::/48", "10.2.0.0/16"))
    assert config.cluster_cidr("IPv4") == "10.1.0.0/16"
    assert config.cluster_cidr("IPv6") == "fd00:1::/48"
    assert ProxyConfig().cluster_cidr("IPv4") == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((), None),
        (("0.0.0.0/0",), None),
        (("10.0.0.0/8", "0.0.0.0/0"), None),
        (("fd00::/16",), None),
        (("10.240.0.0/16",), ("10.240.0.11", "10.240.1.11")),
        (("10.240.1.0/24", "192.0.2.0/24"), ("10.240.1.11", "192.0.2.11")),
        (("127.0.0.0/8",), ("127.0.0.1",)),
        (("172.16.0.0/12",), ()),
        (("primary",), ("10.240.0.11",)),
    ],
)
def test_addresses_that_take_node_ports_in_iptables_mode(wanted: tuple[str, ...], found: tuple[str, ...] | None):
    assert ProxyConfig(node_port_addresses=wanted).node_port_ips(NODE, "IPv4") == found


def test_nftables_mode_takes_node_ports_on_primary_addresses():
    config = ProxyConfig(mode="nftables")
    assert config.node_port_ips(NODE, "IPv4") == ("10.240.0.11",)
    assert config.node_port_ips(NODE, "IPv6") == ("fd00::11",)
    assert config.node_port_ips(replace(NODE, addresses=("10.240.0.11",)), "IPv6") == ()
    assert replace(config, node_port_addresses=("127.0.0.0/8",)).node_port_ips(NODE, "IPv4") == ()


@pytest.mark.parametrize(
    ("settings", "takes"),
    [
        ({}, True),
        ({"localhost_node_ports": False}, False),
        ({"mode": "nftables"}, False),
        ({"node_port_addresses": ("primary",)}, False),
        ({"node_port_addresses": ("10.0.0.0/8",)}, False),
        ({"node_port_addresses": ("127.0.0.0/8",)}, True),
        ({"node_port_addresses": ("127.0.0.1/32",)}, True),
        ({"node_port_addresses": ("0.0.0.0/0",)}, True),
        ({"node_port_addresses": ("fd00::/16",)}, True),
    ],
)
def test_node_ports_on_loopback(settings: dict[str, object], takes: bool):
    config = ProxyConfig(**settings)  # type: ignore[arg-type]
    assert config.takes_localhost_node_ports("IPv4") == takes
    assert not config.takes_localhost_node_ports("IPv6")


def test_sysctls_are_those_that_kube_proxy_sets():
    conntrack = "net.netfilter.nf_conntrack_"
    usual = {f"{conntrack}tcp_timeout_established": 86400, f"{conntrack}tcp_timeout_close_wait": 3600}
    localhost = {"net.ipv4.conf.all.route_localnet": 1}
    assert ProxyConfig().sysctls() == usual | localhost
    assert ProxyConfig(mode="nftables").sysctls() == usual
    given = Conntrack(0, 60, 45, 90, tcp_be_liberal=True)
    assert ProxyConfig(localhost_node_ports=False, conntrack=given).sysctls() == {
        f"{conntrack}tcp_timeout_close_wait": 60,
        f"{conntrack}udp_timeout": 45,
        f"{conntrack}udp_timeout_stream": 90,
        f"{conntrack}tcp_be_liberal": 1,
    }
