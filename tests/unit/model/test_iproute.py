"""A namespace as iproute2 describes it becomes the evaluator's host."""

import json

import pytest

from hoplab.model.iproute import host_of
from hoplab.model.packet import Packet
from hoplab.model.prediction import Prediction
from hoplab.model.rules import Ruleset
from tests.unit.model.bench import only

ADDRESSES = json.dumps(
    [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
        {
            "ifname": "va",
            "addr_info": [
                {"family": "inet", "local": "10.9.0.1", "prefixlen": 24},
                {"family": "inet6", "local": "fd00::1", "prefixlen": 64},
            ],
        },
    ]
)
ROUTES = json.dumps(
    [
        {"dst": "10.7.0.0/16", "gateway": "10.9.0.3", "dev": "va", "table": "100", "metric": 5, "flags": []},
        {"dst": "default", "gateway": "10.9.0.2", "dev": "va", "flags": []},
        {"dst": "default", "gateway": "fd00::2", "dev": "va", "metric": 1024, "flags": []},
        {"type": "blackhole", "dst": "10.8.0.0/16", "flags": []},
        {"dst": "10.9.0.0/24", "dev": "va", "protocol": "kernel", "scope": "link", "flags": []},
        {"type": "local", "dst": "10.9.0.1", "dev": "va", "table": "local", "flags": []},
        {"type": "local", "dst": "1.2.3.4", "dev": "lo", "table": "local", "flags": []},
        {"type": "broadcast", "dst": "10.9.0.255", "dev": "va", "table": "local", "flags": []},
    ]
)
RULES = json.dumps(
    [
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 89, "src": "10.9.5.0", "srclen": 24, "iif": "va", "table": "100"},
        {"priority": 90, "src": "all", "fwmark": "0x5", "fwmask": "0xff", "table": "100"},
        {"priority": 32766, "src": "all", "table": "main"},
        {"priority": 32767, "src": "all", "table": "default"},
    ]
)
RULES6 = json.dumps(
    [{"priority": 0, "src": "all", "table": "local"}, {"priority": 32766, "src": "all", "table": "main"}]
)
HOST = host_of(ADDRESSES, ROUTES, RULES, RULES6, forward=True)


def sent(dst: str, src: str = "10.9.0.7", mark: int = 0) -> Prediction:
    return only(Ruleset(), Packet(src, 1, dst, 80, in_interface="va", mark=mark), HOST)


@pytest.mark.parametrize(
    ("dst", "next_hop"), [("8.8.8.8", "10.9.0.2"), ("10.9.0.50", "10.9.0.50"), ("10.7.0.1", "10.9.0.2")]
)
def test_main_table(dst: str, next_hop: str):
    assert sent(dst).next_hop == next_hop


def test_policy_rules():
    assert sent("10.7.0.1", mark=0x105).next_hop == "10.9.0.3"
    assert sent("10.7.0.1", src="10.9.5.1").next_hop == "10.9.0.3"


def test_ipv6_has_its_own_default_route():
    assert sent("2001:db8::1", src="fd00::7").next_hop == "fd00::2"


def test_own_addresses():
    assert all(sent(dst).delivered for dst in ("10.9.0.1", "1.2.3.4"))
    assert sent("10.8.0.1").outcome == "dropped"


def test_bridges_are_known_from_details():
    given = [
        {"ifname": "eth0", "addr_info": [], "promiscuity": 0},
        {"ifname": "cni0", "addr_info": [], "promiscuity": 0, "linkinfo": {"info_kind": "bridge"}},
    ]
    assert [each.bridge for each in host_of(json.dumps(given)).interfaces] == [False, True]
    assert [each.bridge for each in host_of(json.dumps(given), bridge_netfilter=False).interfaces] == [False, False]
    assert {each.bridge for each in HOST.interfaces} == {None}


def test_what_listens():
    assert host_of(ADDRESSES).listens is None
    assert host_of(ADDRESSES, listens=[("tcp", 80)]).listens == {("tcp", 80)}


@pytest.mark.parametrize(
    ("routes", "rules", "words"),
    [
        ([{"dst": "10.6.0.0/16", "flags": [], "nexthops": []}], [], "several next hops"),
        ([{"type": "nat", "dst": "10.6.0.0/16", "flags": []}], [], "type nat"),
        ([], [{"priority": 5, "src": "all", "ipproto": "tcp", "table": "100"}], "ipproto"),
        ([], [{"priority": 5, "src": "all"}], "no table"),
    ],
)
def test_what_can_not_be_decided(routes: list[object], rules: list[object], words: str):
    with pytest.raises(ValueError, match=words):
        host_of(ADDRESSES, json.dumps(routes), json.dumps(rules))
