"""What a pod's resolver is told: dnsPolicy, dnsConfig and the kubelet's limits; and its /etc/hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.dns.resolv import ResolvConf, pod_hosts, pod_resolv_conf
from hoplab.kube.convert import as_pod
from hoplab.kube.load import load
from hoplab.kube.types import DnsConfig, ObjectMeta, Pod

POD = Pod(ObjectMeta("web-0", "shop"))
NODE = ResolvConf(("203.0.113.1",), ("example.net",))
DNS = ("10.0.0.10",)


def conf(pod: Pod) -> ResolvConf:
    return pod_resolv_conf(pod, DNS, NODE)


def test_cluster_first_asks_the_cluster_and_searches_from_its_own_namespace_outwards() -> None:
    assert conf(POD).text() == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local example.net\n"
        "nameserver 10.0.0.10\n"
        "options ndots:5\n"
    )


@pytest.mark.parametrize(
    ("policy", "host_network", "nameservers", "options"),
    [
        ("ClusterFirst", False, DNS, ("ndots:5",)),
        ("ClusterFirst", True, ("203.0.113.1",), ()),
        ("ClusterFirstWithHostNet", True, DNS, ("ndots:5",)),
        ("Default", False, ("203.0.113.1",), ()),
        ("None", False, (), ()),
    ],
)
def test_policies(policy: str, host_network: bool, nameservers: tuple[str, ...], options: tuple[str, ...]) -> None:
    found = conf(replace(POD, dns_policy=policy, host_network=host_network))
    assert (found.nameservers, found.options) == (nameservers, options)


def test_dns_config_adds_and_an_option_replaces_its_namesake() -> None:
    given = DnsConfig(("192.0.2.1", "10.0.0.10"), ("svc.cluster.local", "mine.example"), ("ndots:2", "edns0"))
    found = conf(replace(POD, dns_config=given))
    assert found.nameservers == ("10.0.0.10", "192.0.2.1")
    assert found.searches == (
        "shop.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "example.net",
        "mine.example",
    )
    assert found.options == ("ndots:2", "edns0")


def test_none_has_what_dns_config_says_and_nothing_else() -> None:
    given = DnsConfig(("192.0.2.1",), ("mine.example",), ("timeout:1",))
    assert conf(replace(POD, dns_policy="None", dns_config=given)) == ResolvConf(
        *map(tuple, (given.nameservers, given.searches, given.options))
    )


def test_limits_of_the_kubelet() -> None:
    many = DnsConfig(tuple(f"192.0.2.{n}" for n in range(9)), tuple(f"d{n}.example" for n in range(40)))
    found = conf(replace(POD, dns_config=many))
    assert len(found.nameservers) == 3
    assert len(found.searches) == 32
    long = DnsConfig(searches=tuple(f"{n:02}{'x' * 200}.example" for n in range(20)))
    assert len(" ".join(conf(replace(POD, dns_config=long)).searches)) <= 2048


def test_from_a_manifest() -> None:
    [pod] = load(
        """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostname: mine
  subdomain: peers
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.1], searches: [a.example], options: [{name: ndots, value: "2"}, {name: edns0}]}
  hostAliases: [{ip: 192.0.2.9, hostnames: [foo.local, bar.local]}]
  containers: [{name: c, image: hoplab/whoami}]
""",
        "p.yaml",
    ).objects
    found = as_pod(pod)
    assert conf(found).text() == "search a.example\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"
    hosts = pod_hosts(found, ["10.1.1.2"]).splitlines()
    assert hosts[0] == "# Kubernetes-managed hosts file."
    assert hosts[-4:] == [
        "10.1.1.2\tmine.peers.default.svc.cluster.local\tmine",
        "",
        "# Entries added by HostAliases.",
        "192.0.2.9\tfoo.local\tbar.local",
    ]


def test_a_pod_without_a_subdomain_has_no_full_name() -> None:
    assert pod_hosts(POD, ["10.1.1.2", "fd00::2"]).splitlines()[-2:] == ["10.1.1.2\tweb-0", "fd00::2\tweb-0"]
