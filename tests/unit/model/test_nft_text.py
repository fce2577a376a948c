"""What nft text says, as `nft list ruleset` prints it and as `nft -f` takes it; and what is refused."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hoplab.model.jhash import jhash, scaled_jhash
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Packet
from hoplab.model.rules import RulesetError, Unsupported
from hoplab.model.state import Unforeseeable
from hoplab.model.walk import outcomes
from tests.unit.model.bench import NODE, only, walked

PACKET = Packet("203.0.113.9", 40000, "10.180.0.1", 80, in_interface="eth0")
PING = replace(PACKET, protocol="icmp", sport=7, dport=0)
SIX = Packet("2001:db8:1::9", 40000, "fd00:10::1", 80, in_interface="eth0")
SETS = """
    set clients {
        type ipv4_addr
        flags interval
        elements = { 203.0.113.0/25,
                     198.51.100.1-198.51.100.9 }
    }
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 3h; size 65535;
        elements = { 203.0.113.9 timeout 3h expires 2h59m12s } }
    set pairs { typeof ip daddr . tcp dport; elements = { 10.180.0.1 . 80 comment "the pod" } }
    map marks { type ipv4_addr : mark; elements = { 203.0.113.9 : 0x00000005, * : 0x9 } }
"""


def table(rules: str, hook: str = "forward", family: str = "inet") -> str:
    chain = f"chain c {{ type filter hook {hook} priority filter; policy accept;\n{rules}\n}}"
    return f"table {family} t {{{SETS}\n {chain} }}"


def matches(match: str, packet: Packet = PACKET) -> bool:
    """Whether a rule in the forward hook with this match takes the packet."""
    return only(parse_nft(table(f"{match} drop")), packet).outcome == "dropped"


@pytest.mark.parametrize(
    "match",
    [
        "",
        "ip saddr 203.0.113.9",
        "ip saddr == 203.0.113.0/24",
        "ip saddr != 10.0.0.0/8",
        "ip saddr 203.0.113.1-203.0.113.20",
        "ip saddr { 1.2.3.4, 203.0.113.0/24 }",
        "ip saddr != { 1.2.3.4, 10.0.0.0/8 }",
        "ip saddr @clients",
        "ip saddr @seen",
        "ip daddr . tcp dport @pairs",
        "ip daddr . tcp dport { 10.0.0.0/8 . 1-100 }",
        "ip daddr . meta l4proto . th dport 10.180.0.1 . tcp . 80",
        "ip protocol tcp",
        "meta l4proto { tcp, udp }",
        "meta nfproto ipv4",
        "meta protocol ip",
        "tcp dport 80",
        "tcp dport http",
        "th dport >= 80 th dport < 81",
        "tcp dport { 22, 80-90 }",
        "tcp sport 40000",
        "tcp flags syn",
        "tcp flags & (fin | syn | rst | ack) == syn",
        "tcp flags syn / fin,syn,rst,ack",
        'iifname "eth0"',
        'iifname "eth*"',
        'iifname { "eth0", "lo" } oifname "cni0"',
        "iif eth0",
        "oif != eth0",
        "meta mark 0",
        "mark and 0x4000 == 0",
        "meta mark & 0x00004000 != 0x00004000",
        "ct state new",
        "ct state { new, invalid }",
        "ct state new,established",
        "ct state != established",
        "ct direction original",
        "ct mark 0",
        "ct status & dnat == 0",
        "ct status ! dnat",
        "ct original ip daddr 10.180.0.1",
        "ct original proto-dst 80",
        "fib daddr type unicast",
        "fib saddr type != local",
        "fib daddr type { unicast, multicast }",
        "limit rate 10/second burst 5 packets",
        "counter packets 5 bytes 10",
        'log prefix "x" level info',
        "meta nftrace set 1",
    ],
)
def test_what_takes_a_forwarded_tcp_packet(match: str):
    assert matches(match)


@pytest.mark.parametrize(
    "match",
    [
        "ip saddr 203.0.113.8",
        "ip saddr != 203.0.113.0/24",
        "ip saddr != @clients",
        "ip daddr @seen",
        "ip6 saddr ::/0",
        "meta nfproto ipv6",
        "udp dport 80",
        "tcp dport != 80",
        "tcp flags ! syn",
        "tcp flags == ack",
        "icmp type echo-request",
        'iifname "cni*"',
        "mark 0x1",
        "ct state established,related",
        "ct status dnat",
        "fib daddr type local",
        "limit rate over 10/second",
        "ip daddr . udp dport @pairs",
    ],
)
def test_what_does_not(match: str):
    assert not matches(match)


@pytest.mark.parametrize(
    ("match", "packet", "expected"),
    [
        ("icmp type echo-request icmp code 0", PING, True),
        ("th dport 80", PING, False),
        ("icmpv6 type 128", replace(SIX, protocol="icmpv6"), True),
        ("ip6 saddr 2001:db8:1::/48 tcp dport 80", SIX, True),
        ("ip6 daddr { fd00:10::1-fd00:10::9 }", SIX, True),
        ("ip saddr != 1.2.3.4", SIX, False),
        ("ct state established", replace(PACKET, ct_state="established"), True),
        ("ct direction reply", replace(PACKET, ct_state="established", reply=True), True),
    ],
)
def test_other_packets(match: str, packet: Packet, expected: bool):
    assert matches(match, packet) is expected


@pytest.mark.parametrize(
    ("statement", "before", "after"),
    [
        ("meta mark set 0x1", 0x40, 0x1),
        ("mark set mark or 0x4000", 0x1, 0x4001),
        ("mark set mark xor 0x4000", 0x4001, 0x1),
        ("meta mark set meta mark & 0xffffbfff | 0x1", 0x4000, 0x1),
        ("meta mark set (meta mark & 0x1) | 0x8", 0x4001, 0x9),
        ("meta mark set ip saddr map @marks", 0, 5),
        ("meta mark set ip daddr map @marks", 0, 9),
        ("meta mark set tcp dport map { 79 : 1, 80 : 2 }", 0, 2),
        ("meta mark set tcp dport map { 79 : 1, 81 : 2 }", 7, 7),
        ("ct mark set 0x3 meta mark set ct mark", 0, 3),
    ],
)
def test_marks(statement: str, before: int, after: int):
    assert only(parse_nft(table(statement)), replace(PACKET, mark=before)).packet.mark == after


@pytest.mark.parametrize(
    ("statement", "endpoint"),
    [
        ("dnat ip to 10.180.0.7:8080", "10.180.0.7:8080"),
        ("dnat ip to 10.180.0.7", "10.180.0.7:80"),
        ("dnat ip to 10.180.0.7 : 8080", "10.180.0.7:8080"),
        ("dnat ip to ip daddr map { 10.180.0.1 : 10.180.0.9 }", "10.180.0.9:80"),
        ("dnat ip to ip daddr . tcp dport map { 10.180.0.1 . 80 : 10.180.0.9 . 81 }", "10.180.0.9:81"),
        ("dnat ip addr . port to tcp dport map { 80 : 10.180.0.9 . 82 }", "10.180.0.9:82"),
        ("dnat ip to 10.180.0.9 : tcp dport map { 80 : 83 }", "10.180.0.9:83"),
        ("redirect to :8080", "192.168.0.2:8080"),
    ],
)
def test_destinations(statement: str, endpoint: str):
    text = f"table inet t {{ chain c {{ type nat hook prerouting priority dstnat; meta l4proto tcp {statement}\n}} }}"
    prediction = only(parse_nft(text), PACKET)
    assert (prediction.outcome, prediction.endpoint) == ("accepted", endpoint)


def test_an_ipv6_destination_stands_in_brackets():
    rule = "meta l4proto tcp dnat to [fd00:10::7]:8080"
    text = f"table ip6 t {{ chain c {{ type nat hook prerouting priority -100; {rule}\n}} }}"
    assert only(parse_nft(text), SIX).endpoint == "[fd00:10::7]:8080"


@pytest.mark.parametrize(
    ("statement", "source", "masqueraded"),
    [
        ("masquerade", ("10.180.0.254", 40000), True),
        ("masquerade fully-random", ("10.180.0.254", None), True),
        ("masquerade to :99", ("10.180.0.254", 99), True),
        ("snat ip to 192.168.0.7", ("192.168.0.7", 40000), False),
    ],
)
def test_sources(statement: str, source: tuple[str, int | None], masqueraded: bool):
    text = f"table inet t {{ chain c {{ type nat hook postrouting priority srcnat; meta l4proto tcp {statement}\n}} }}"
    prediction = only(parse_nft(text), PACKET)
    assert (prediction.packet.src, prediction.packet.sport) == source
    assert prediction.masqueraded is masqueraded


VERDICT_MAPS = [
    ("tcp dport vmap { 80 : drop, 81 : accept }", "dropped"),
    ("tcp dport vmap { 81 : drop }", "unhandled"),
    ("ct state vmap { new : continue, invalid : accept } drop", "unhandled"),
    ("ip daddr . tcp dport vmap { 10.180.0.0/24 . 80 : goto other }", "rejected"),
    ("tcp dport vmap { 80 : jump nothing }\ndrop", "dropped"),
    ("tcp dport vmap { 80 : return }\ndrop", "unhandled"),
    ("tcp dport vmap @ways", "rejected"),
]


@pytest.mark.parametrize(("rules", "outcome"), VERDICT_MAPS)
def test_verdict_maps(rules: str, outcome: str):
    text = table(rules)[:-1] + (
        "chain other { reject with tcp reset\n}\nchain nothing {\n}\n"
        "map ways { type inet_service : verdict; elements = { 80 : goto other } }\n}"
    )
    assert only(parse_nft(text), PACKET).outcome == outcome


class TestChance:
    @pytest.mark.parametrize("count", [2, 3, 5, 10])
    def test_numgen_random_is_exact(self, count: int):
        ways = ", ".join(f"{index} : 10.180.0.{index + 1}" for index in range(count))
        text = (
            "table ip t { chain c { type nat hook prerouting priority -100;"
            f" dnat to numgen random mod {count} map {{ {ways} }}\n}} }}"
        )
        found = outcomes(parse_nft(text), PACKET, NODE)
        assert [each.probability for each in found] == [Fraction(1, count)] * count
        assert not any(each.assumptions for each in found)

    def test_numgen_inc_is_an_assumption(self):
        text = table("numgen inc mod 4 vmap { 0 : drop, 3 : drop }")
        found = outcomes(parse_nft(text), PACKET, NODE)
        assert sum(each.probability for each in found if each.outcome == "dropped") == Fraction(1, 2)
        assert all(each.assumptions for each in found)

    def test_an_offset_shifts_the_numbers(self):
        text = table("numgen random mod 2 offset 10 vmap { 10 : drop, 11 : accept }")
        assert {each.outcome for each in outcomes(parse_nft(text), PACKET, NODE)} == {"dropped", "unhandled"}

    def test_a_match_by_chance(self):
        found = walked(parse_nft(table("numgen random mod 10 < 3 drop")), PACKET)
        assert sorted(found.values()) == [Fraction(3, 10), Fraction(7, 10)]

    def test_jhash_with_a_seed_is_certain(self):
        ruleset = parse_nft(table("meta mark set jhash ip saddr mod 1000003 seed 0x1234 offset 7"))
        mark = only(ruleset, PACKET).packet.mark
        assert mark == scaled_jhash(bytes([203, 0, 113, 9]), 1000003, 0x1234, 7)

    @pytest.mark.parametrize("rule", ["jhash ip saddr mod 2", "symhash mod 2"])
    def test_a_seed_of_the_kernels_is_not_known(self, rule: str):
        found = outcomes(parse_nft(table(f"{rule} vmap {{ 0 : drop, 1 : accept }}")), PACKET, NODE)
        assert {each.probability for each in found} == {Fraction(1, 2)}
        assert all(each.assumptions for each in found)

    def test_a_port_that_nobody_knows(self):
        unknown = replace(PACKET, sport=None)
        hashed = parse_nft(table("jhash th sport mod 2 seed 1 vmap { 0 : drop, 1 : accept }"))
        assert {each.probability for each in outcomes(hashed, unknown, NODE)} == {Fraction(1, 2)}
        with pytest.raises(Unforeseeable, match=r"line \d+: .*source port"):
            outcomes(parse_nft(table("tcp sport 40000 drop")), unknown, NODE)


# Seen in a kernel (6.18, little-endian): nft's own hash of these bytes.
@pytest.mark.parametrize(
    ("data", "seed", "modulus", "offset", "expected"),
    [
        ("0a090002 0a090001 9c400000 13880000 11000000", 0x686F706C, 1000003, 0, 0x00093021),
        ("0a090002 0a090001 9c410000 13880000 11000000", 0x686F706C, 1000003, 0, 0x000E18D8),
        ("0a090002", 0x1234, 1000003, 7, 0x000D1797),
        ("9c54", 0x1234, 1000003, 0, 0x0007FCBC),
        ("9c55", 0x1234, 1000003, 0, 0x0003C877),
        ("4d000000", 0x1234, 1000003, 0, 0x000F2387),
    ],
)
def test_the_kernels_hash(data: str, seed: int, modulus: int, offset: int, expected: int):
    assert scaled_jhash(bytes.fromhex(data), modulus, seed, offset) == expected


@pytest.mark.parametrize(("length", "expected"), [(0, 3736003124), (4, 2592275914), (13, 1645811185), (24, 3908576386)])
def test_jhash_of_every_kind_of_length(length: int, expected: int):
    """Values of Bob Jenkins' function in C for the same bytes."""
    data = bytes((index * 37 + 5) & 0xFF for index in range(length))
    assert jhash(data, 0x12345 + length) == expected


class TestCommands:
    BASE = (
        'add table ip t { comment "mine" ; }\nadd chain ip t base { type filter hook forward priority 0 ; }\n'
        "add chain ip t other\nadd set ip t blocked { type ipv4_addr ; }\n"
        'add rule ip t base jump other comment "to the other"\n'
        "add rule ip t other ip saddr @blocked drop\nadd element ip t blocked { 203.0.113.9 }\n"
    )

    def outcome(self, *changes: str) -> str:
        ruleset = parse_nft(self.BASE)
        for change in changes:
            ruleset = parse_nft(change, onto=ruleset)
        return only(ruleset, PACKET).outcome if ruleset.tables else "no table"

    def test_without_a_change(self):
        assert self.outcome() == "dropped"

    @pytest.mark.parametrize(
        "change",
        [
            "delete element ip t blocked { 203.0.113.9 }",
            "flush set ip t blocked",
            "flush chain ip t other",
            "flush table ip t",
            "insert rule ip t base accept",
            "add table ip t\ndelete table ip t\nadd table ip t",
            "destroy table ip gone; flush chain ip t base",
            "add table ip t { flags dormant ; }\ntable ip t { flags dormant; }",
        ],
    )
    def test_a_change_that_lets_it_pass(self, change: str):
        assert self.outcome(change) == "unhandled"

    def test_flush_ruleset(self):
        assert self.outcome("flush ruleset") == "no table"

    def test_the_ruleset_before_is_not_changed(self):
        before = parse_nft(self.BASE)
        parse_nft("delete element ip t blocked { 203.0.113.9 }\nflush chain ip t other", onto=before)
        assert only(before, PACKET).outcome == "dropped"

    def test_the_family_is_ip_when_none_is_named(self):
        assert parse_nft("add table t").tables.keys() == {("ip", "t")}

    def test_tables_of_iptables_nft_are_left_out(self):
        text = (
            "# Warning: table ip nat is managed by iptables-nft, do not touch!\ntable ip nat {\n chain X {\n"
            ' xt match "comment" counter packets 0 bytes 0 xt target "MARK"\n }\n}\ntable ip mine {\n}\n'
        )
        assert parse_nft(text).tables.keys() == {("ip", "mine")}


REFUSED = [
    ("meta skuid 0 drop", "skuid"),
    ("socket mark 1 drop", "socket"),
    ("ip dscp cs1 drop", "dscp"),
    ("queue num 1", "queue"),
    ("tproxy to :80", "tproxy"),
    ("ip saddr 10.0.0.0/40 drop", "prefix length"),
    ("ip saddr fd00::1 drop", "fd00::1"),
    ("tcp dport frobnicate drop", "frobnicate"),
    ("ct state strange drop", "strange"),
    ("ct status == dnat drop", "mask the flags"),
    ("ct status assured drop", "assured"),
    ("ct zone 5 drop", "zone"),
    ("fib daddr . mark type local drop", "mark"),
    ("fib daddr oif eth0 drop", "oif"),
    ("numgen sometimes mod 2 vmap { 0 : drop }", "sometimes"),
    ("numgen random mod 0 vmap { 0 : drop }", "at least 1"),
    ("meta mark set mark | 0x1 & 0x2", "rank"),
    ("drop everything", "everything"),
    ("ip saddr { 10.0.0.1 drop", "'}'"),
    ("dnat to 10.0.0.1-10.0.0.9", "range"),
    ("jump nowhere", "no chain 'nowhere'"),
    ("ip saddr @nobody drop", "no set 'nobody'"),
    ("reject with nonsense", "nonsense"),
]


@pytest.mark.parametrize(("rule", "words"), REFUSED)
def test_what_is_not_known_is_refused_with_its_line(rule: str, words: str):
    text = f"table ip t {{\n  chain c {{\n    type filter hook input priority 0;\n    accept\n    {rule}\n  }}\n}}\n"
    with pytest.raises(Unsupported) as refused:
        parse_nft(text)
    assert refused.value.line == 5
    assert refused.value.text == rule
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table netdev t { }", "family netdev"),
        ("table ip t { flowtable f { } }", "flowtable"),
        ("table ip t {\n chain c {\n", "the end of the text"),
        ('include "other"', "include"),
        ("define x = 5", "define"),
        ("delete table ip gone", "no table ip gone"),
        ("add rule ip gone c drop", "no table ip gone"),
        ("table ip t { set s { flags interval; } }", "no type"),
        ("table ip t { set s { type strange; } }", "strange"),
        ("table ip t { chain c { type filter hook ingress priority 0; } }", "ingress"),
        ("table ip t { }\nadd rule ip t gone drop", "gone"),
        ("table ip t { chain c { } }\ndelete rule ip t c handle 5", "rule"),
        ("table ip t { }\ndelete chain ip t gone", "no chain gone"),
    ],
)
def test_other_faults(text: str, words: str):
    with pytest.raises(RulesetError, match=words):
        parse_nft(text)
