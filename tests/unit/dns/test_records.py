"""Names of a cluster, as the DNS specification 1.1.0 has them, section by section."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.dns.records import PodAddresses, Record, dashed, records, reverse_name
from hoplab.dns.zone import reverse_zone, zones
from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, ObjectMeta, Service, ServicePort

WEB = Service(ObjectMeta("web"), cluster_ips=("10.0.0.20",), ports=(ServicePort(80, name="http"), ServicePort(443)))
HEADLESS = replace(WEB, meta=ObjectMeta("peers", "db"), cluster_ips=("None",))
PORTS = (EndpointPort(8080, "TCP", "http"), EndpointPort(5353, "UDP", "gossip"), EndpointPort(9, "TCP", ""))


def piece(*endpoints: Endpoint, ports: tuple[EndpointPort, ...] = PORTS) -> EndpointSlice:
    return EndpointSlice(ObjectMeta("peers-x", "db"), "peers", endpoints=endpoints, ports=ports)


def told(
    services: list[Service], slices: list[EndpointSlice] | None = None, *pods: PodAddresses
) -> set[tuple[str, str, str]]:
    found = records(services, slices or [], pods)
    return {(r.name, r.type, r.data) for r in found} - {("dns-version.cluster.local.", "TXT", '"1.1.0"')}


def test_schema_version_2_2() -> None:
    assert records([], []) == (Record("dns-version.cluster.local.", "TXT", '"1.1.0"'),)


def test_a_service_with_a_cluster_ip_2_3() -> None:
    assert told([WEB]) == {
        ("web.default.svc.cluster.local.", "A", "10.0.0.20"),
        ("_http._tcp.web.default.svc.cluster.local.", "SRV", "0 50 80 web.default.svc.cluster.local."),
        ("20.0.0.10.in-addr.arpa.", "PTR", "web.default.svc.cluster.local."),
    }


def test_both_families_2_3() -> None:
    both = replace(WEB, cluster_ips=("10.0.0.20", "fd00:10::20"), ports=())
    assert told([both]) >= {
        ("web.default.svc.cluster.local.", "AAAA", "fd00:10::20"),
        (reverse_name("fd00:10::20"), "PTR", "web.default.svc.cluster.local."),
    }


def test_a_headless_service_2_4() -> None:
    slices = [piece(Endpoint(("10.1.1.2",)), Endpoint(("10.1.2.2",), hostname="b"))]
    name = "peers.db.svc.cluster.local."
    assert told([HEADLESS], slices) == {
        (name, "A", "10.1.1.2"),
        (name, "A", "10.1.2.2"),
        (f"10-1-1-2.{name}", "A", "10.1.1.2"),
        (f"b.{name}", "A", "10.1.2.2"),
        (f"_http._tcp.{name}", "SRV", f"0 50 8080 10-1-1-2.{name}"),
        (f"_http._tcp.{name}", "SRV", f"0 50 8080 b.{name}"),
        (f"_gossip._udp.{name}", "SRV", f"0 50 5353 10-1-1-2.{name}"),
        (f"_gossip._udp.{name}", "SRV", f"0 50 5353 b.{name}"),
        ("2.1.1.10.in-addr.arpa.", "PTR", f"10-1-1-2.{name}"),
        ("2.2.1.10.in-addr.arpa.", "PTR", f"b.{name}"),
    }


def test_one_hostname_of_several_endpoints_has_all_their_addresses_2_4_1() -> None:
    slices = [piece(Endpoint(("10.1.1.2",), hostname="same"), Endpoint(("10.1.2.2",), hostname="same"), ports=())]
    assert {data for name, kind, data in told([HEADLESS], slices) if name.startswith("same.")} == {
        "10.1.1.2",
        "10.1.2.2",
    }


def test_who_is_not_ready_has_no_name_unless_the_service_says_so() -> None:
    slices = [piece(Endpoint(("10.1.1.2",), ready=False, serving=False))]
    assert told([HEADLESS], slices) == set()
    assert told([replace(HEADLESS, publish_not_ready_addresses=True)], slices) >= {
        ("peers.db.svc.cluster.local.", "A", "10.1.1.2")
    }


def test_endpoints_of_a_service_with_a_cluster_ip_have_no_names() -> None:
    slices = [
        EndpointSlice(ObjectMeta("web-x"), "web", endpoints=(Endpoint(("10.1.1.2",), hostname="a"),), ports=PORTS)
    ]
    assert told([WEB], slices) == told([WEB])


def test_an_external_name_is_an_alias_2_5() -> None:
    for target in ("www.example.com", "www.example.com."):
        external = replace(WEB, type="ExternalName", cluster_ips=(), external_name=target)
        assert told([external]) == {("web.default.svc.cluster.local.", "CNAME", "www.example.com.")}


def test_pods_have_names_by_their_addresses_2_6() -> None:
    pod = PodAddresses("default", ("10.1.1.2", "fd00::2"))
    assert told([], [], pod) == {
        ("10-1-1-2.default.pod.cluster.local.", "A", "10.1.1.2"),
        ("fd00--2.default.pod.cluster.local.", "AAAA", "fd00::2"),
    }


def test_slices_of_names_are_nobodys_address() -> None:
    names = EndpointSlice(ObjectMeta("x", "db"), "peers", "FQDN", (Endpoint(("a.example",)),), PORTS)
    assert told([HEADLESS], [names]) == set()


def test_another_domain() -> None:
    assert {r.name for r in records([WEB], [], domain="lab.test") if r.type == "A"} == {"web.default.svc.lab.test."}


@pytest.mark.parametrize(
    ("network", "zone"),
    [
        ("10.1.0.0/16", "1.10.in-addr.arpa."),
        ("10.1.2.0/24", "2.1.10.in-addr.arpa."),
        ("10.96.0.0/12", "10.in-addr.arpa."),
        ("192.168.99.0/24", "99.168.192.in-addr.arpa."),
        ("fd00:10:1::/48", "1.0.0.0.0.1.0.0.0.0.d.f.ip6.arpa."),
    ],
)
def test_reverse_zones(network: str, zone: str) -> None:
    assert reverse_zone(network) == zone


def test_records_go_to_the_zone_that_they_belong_to() -> None:
    made = zones(
        records([WEB], [], [PodAddresses("default", ("10.1.1.2",))]), ["10.0.0.0/16", "10.1.0.0/16"], server="10.0.0.10"
    )
    assert list(made) == ["cluster.local.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa."]
    assert made["cluster.local."].splitlines() == [
        "$ORIGIN cluster.local.",
        "$TTL 30",
        "@ IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30",
        "@ IN NS ns.dns.cluster.local.",
        "10-1-1-2.default.pod.cluster.local. IN A 10.1.1.2",
        "_http._tcp.web.default.svc.cluster.local. IN SRV 0 50 80 web.default.svc.cluster.local.",
        'dns-version.cluster.local. IN TXT "1.1.0"',
        "ns.dns.cluster.local. IN A 10.0.0.10",
        "web.default.svc.cluster.local. IN A 10.0.0.20",
    ]
    assert (
        made["0.10.in-addr.arpa."].splitlines()[-1] == "20.0.0.10.in-addr.arpa. IN PTR web.default.svc.cluster.local."
    )
    assert made["1.10.in-addr.arpa."].count("\n") == 4


def test_addresses_outside_of_the_networks_have_no_reverse_record() -> None:
    slices = [piece(Endpoint(("203.0.113.10",)))]
    made = zones(records([HEADLESS], slices), ["10.0.0.0/16"])
    assert "203.0.113.10" in made["cluster.local."]
    assert "PTR" not in "".join(made.values())


ADDRESSES = st.lists(st.ip_addresses(v=4).map(str), max_size=6, unique=True)


@given(ADDRESSES, st.randoms())
def test_the_order_of_endpoints_does_not_matter_and_every_target_has_an_address(
    addresses: list[str], chance: object
) -> None:
    endpoints = [Endpoint((ip,)) for ip in addresses]
    found = records([HEADLESS], [piece(*endpoints)])
    chance.shuffle(endpoints)  # type: ignore[attr-defined]
    assert records([HEADLESS], [piece(*endpoints)]) == found
    named = {r.name for r in found if r.type == "A"}
    assert all(r.data.split()[-1] in named for r in found if r.type == "SRV")
    assert {r.data for r in found if r.name == "peers.db.svc.cluster.local."} == set(addresses)
    assert len({dashed(ip) for ip in addresses}) == len(addresses)
