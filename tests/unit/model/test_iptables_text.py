"""What iptables-save and iptables-restore text says: chains, changes, every match and target, and what is refused."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hoplab.model.iptables import parse_iptables
from hoplab.model.iptables_stateful import probability_of
from hoplab.model.packet import Host, Interface, Packet, Translation
from hoplab.model.rules import RulesetError, Unsupported
from hoplab.model.state import Unforeseeable
from hoplab.model.walk import outcomes
from tests.unit.model.bench import NODE, only

PACKET = Packet("203.0.113.9", 40000, "10.180.0.1", 80, in_interface="eth0")
"""Forwarded from eth0 to cni0."""
PING = replace(PACKET, protocol="icmp", sport=7, dport=0)
SIX = Packet("2001:db8:1::9", 40000, "fd00:10::1", 80, in_interface="eth0")


def forward(match: str, *more: str, table: str = "filter") -> str:
    lines = [f"*{table}", *more, f"-A FORWARD {match} -j MARK --set-mark 0x77", "COMMIT"]
    return "\n".join(lines) + "\n"


def matches(match: str, packet: Packet = PACKET, host: Host = NODE) -> bool:
    """Whether a FORWARD rule with this match takes the packet."""
    family = "ip6" if ":" in packet.src else "ip"
    return only(parse_iptables(forward(match), family), packet, host).packet.mark == 0x77


@pytest.mark.parametrize(
    "match",
    [
        "",
        "-s 203.0.113.9",
        "-s 203.0.113.0/24",
        "-s 203.0.0.0/255.255.0.0",
        "--source 203.0.113.0/24 --dst 10.180.0.1/32",
        "! -s 10.0.0.0/8",
        "-s 10.0.0.1,203.0.113.9",
        "-i eth0",
        "-i et+",
        "! -i cni0",
        "-o cni0",
        "-p tcp",
        "-p 6",
        "-p all",
        "! -p udp",
        "-p tcp --dport 80",
        "-p tcp -m tcp --dport 79:81",
        "-m tcp -p tcp --dport :80",
        "-p tcp ! --dport 81:",
        "-p tcp -m tcp --sport 40000 --destination-port 80",
        "-p tcp --syn",
        "-p tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        "-p tcp ! --tcp-flags ALL ACK",
        "-p tcp -m multiport --dports 22,80,8000:8080",
        "-p tcp -m multiport ! --sports 22,80",
        "-p tcp -m multiport --ports 1,40000",
        "-m addrtype ! --dst-type LOCAL",
        "-m addrtype --src-type UNICAST,MULTICAST",
        "-m mark --mark 0",
        "-m mark ! --mark 0x4000/0x4000",
        "-m conntrack --ctstate NEW,RELATED",
        "-m conntrack ! --ctstate INVALID",
        "-m state --state NEW",
        "-m conntrack --ctorigdst 10.180.0.0/24 --ctorigdstport 80",
        "-m conntrack --ctdir ORIGINAL",
        "-m conntrack ! --ctstatus SEEN_REPLY",
        "-m connmark --mark 0",
        "-m rpfilter",
        "-m rpfilter --loose",
        '-m comment --comment "a \\"quoted\\" -j DROP"',
        "-m limit --limit 5/min --limit-burst 3",
        "-m nfacct --nfacct-name anything",
        "-c 5 300 -p tcp",
    ],
)
def test_what_takes_a_forwarded_tcp_packet(match: str):
    assert matches(match)


@pytest.mark.parametrize(
    "match",
    [
        "-s 203.0.113.8",
        "! -s 203.0.113.9",
        "-i eth",
        "! -i eth+",
        "-o eth0",
        "-p udp",
        "! -p tcp",
        "-p tcp --dport 81",
        "-p tcp ! --dport 80",
        "-p tcp ! --syn",
        "-p tcp -m multiport --dports 22,443",
        "-m addrtype --dst-type LOCAL",
        "-m addrtype --src-type LOCAL",
        "-m mark --mark 0x4000/0x4000",
        "-m conntrack --ctstate ESTABLISHED,RELATED",
        "-m conntrack --ctstate DNAT",
        "-m conntrack --ctdir REPLY",
        "-m conntrack ! --ctproto tcp",
        "-m rpfilter --invert",
        "-p icmp -m icmp --icmp-type echo-request",
        "-m recent --rcheck --seconds 10800 --reap --name x --mask 255.255.255.255 --rsource",
        "-m recent ! --set --name x",
    ],
)
def test_what_does_not(match: str):
    assert not matches(match)


@pytest.mark.parametrize(
    ("match", "packet", "expected"),
    [
        ("-p icmp -m icmp --icmp-type 8", PING, True),
        ("-p icmp -m icmp --icmp-type any", PING, True),
        ("-p icmp -m icmp ! --icmp-type 8/0", PING, False),
        ("-p icmp --icmp-type echo-reply", replace(PING, icmp_type=0), True),
        ("-p ipv6-icmp -m icmp6 --icmpv6-type echo-request", replace(SIX, protocol="icmpv6"), True),
        ("-s 2001:db8:1::/48 -p tcp --dport 80", SIX, True),
        ("-d fd00:10::2", SIX, False),
        ("-p sctp --dport 80", replace(PACKET, protocol="sctp"), True),
        ("-m conntrack --ctstate ESTABLISHED", replace(PACKET, ct_state="established"), True),
        ("-m conntrack --ctstatus SEEN_REPLY", replace(PACKET, ct_state="established"), True),
        ("-m conntrack --ctdir REPLY", replace(PACKET, ct_state="established", reply=True), True),
    ],
)
def test_other_packets(match: str, packet: Packet, expected: bool):
    assert matches(match, packet) is expected


def test_limit_iface_asks_for_an_address_of_that_interface():
    text = "*mangle\n-A INPUT -m addrtype --dst-type LOCAL --limit-iface-in -j MARK --set-mark 1\nCOMMIT\n"
    ruleset = parse_iptables(text)
    assert only(ruleset, replace(PACKET, dst="192.168.0.2")).packet.mark == 1
    assert only(ruleset, replace(PACKET, dst="192.168.1.2")).packet.mark == 0


@pytest.mark.parametrize(
    ("option", "before", "after"),
    [
        ("--set-xmark 0x4000/0x4000", 0x1, 0x4001),
        ("--set-xmark 0x4000/0x0", 0x4001, 0x1),
        ("--set-mark 0x1", 0x4000, 0x1),
        ("--set-mark 0x1/0xf", 0x40, 0x41),
        ("--or-mark 0x4000", 0x1, 0x4001),
        ("--and-mark 0xf", 0x4001, 0x1),
        ("--xor-mark 0x4000", 0x4001, 0x1),
    ],
)
def test_marks(option: str, before: int, after: int):
    ruleset = parse_iptables(f"*mangle\n-A FORWARD -j MARK {option}\nCOMMIT\n")
    assert only(ruleset, replace(PACKET, mark=before)).packet.mark == after


def test_a_connection_keeps_its_mark_from_table_to_table():
    text = (
        "*mangle\n-A PREROUTING -j MARK --set-mark 0x77\n-A PREROUTING -j CONNMARK --save-mark\n"
        "-A PREROUTING -j MARK --set-mark 0\n"
        "-A POSTROUTING -m connmark --mark 0x77 -j CONNMARK --restore-mark\nCOMMIT\n"
    )
    assert only(parse_iptables(text), PACKET).packet.mark == 0x77


WATCHING = ["LOG --log-prefix x", "NFLOG --nflog-group 1", "TRACE", "TCPMSS --clamp-mss-to-pmtu"]


@pytest.mark.parametrize("target", WATCHING)
def test_targets_that_only_watch(target: str):
    ruleset = parse_iptables(f"*mangle\n-A FORWARD -j {target}\n-A FORWARD -j MARK --set-mark 1\nCOMMIT\n")
    assert only(ruleset, PACKET).packet.mark == 1


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        ("DNAT --to-destination 10.180.0.7:8080", "10.180.0.7:8080"),
        ("DNAT --to-destination 10.180.0.7", "10.180.0.7:80"),
        ("DNAT --to-destination :8080", "10.180.0.1:8080"),
        ("REDIRECT --to-ports 8080", "192.168.0.2:8080"),
    ],
)
def test_destinations(target: str, endpoint: str):
    ruleset = parse_iptables(f"*nat\n-A PREROUTING -p tcp -j {target}\nCOMMIT\n")
    prediction = only(ruleset, PACKET)
    assert (prediction.outcome, prediction.endpoint) == ("accepted", endpoint)


@pytest.mark.parametrize(
    ("target", "source", "masqueraded"),
    [
        ("MASQUERADE", ("10.180.0.254", 40000), True),
        ("MASQUERADE --random-fully", ("10.180.0.254", None), True),
        ("MASQUERADE --to-ports 1024-2048", ("10.180.0.254", None), True),
        ("SNAT --to-source 192.168.0.7", ("192.168.0.7", 40000), False),
        ("SNAT --to-source 192.168.0.7:99", ("192.168.0.7", 99), False),
    ],
)
def test_sources(target: str, source: tuple[str, int | None], masqueraded: bool):
    ruleset = parse_iptables(f"*nat\n-A POSTROUTING -p tcp -j {target}\nCOMMIT\n")
    prediction = only(ruleset, PACKET)
    assert (prediction.packet.src, prediction.packet.sport) == source
    assert prediction.masqueraded is masqueraded


def test_an_ipv6_destination_stands_in_brackets():
    ruleset = parse_iptables("*nat\n-A PREROUTING -p tcp -j DNAT --to-destination [fd00:10::7]:8080\nCOMMIT\n", "ip6")
    assert only(ruleset, SIX).endpoint == "[fd00:10::7]:8080"


@pytest.mark.parametrize("choices", [1, 2, 3, 5, 10, 100, 5000])
def test_a_probability_is_what_its_author_meant(choices: int):
    """kube-proxy writes ten digits; iptables-save prints eleven of what the kernel keeps in 31 bits."""
    written = f"{1 / choices:.10f}"
    printed = f"{round(float(written) * (1 << 31)) / (1 << 31):.11f}"
    assert probability_of(written) == probability_of(printed) == Fraction(1, choices)


def test_other_probabilities():
    assert probability_of("0.7") == Fraction(7, 10)
    assert probability_of("0") == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        probability_of("1.5")


def test_nth_is_an_assumption():
    text = "*filter\n-A FORWARD -m statistic --mode nth --every 3 --packet 0 -j DROP\nCOMMIT\n"
    found = {each.outcome: each for each in outcomes(parse_iptables(text), PACKET, NODE)}
    assert {name: each.probability for name, each in found.items()} == {
        "dropped": Fraction(1, 3),
        "unhandled": Fraction(2, 3),
    }
    assert all(each.assumptions for each in found.values())


class TestChanges:
    """`onto`: what iptables-restore --noflush makes of a ruleset."""

    BASE = (
        "*filter\n:FORWARD ACCEPT [1:2]\n:MINE - [0:0]\n:OTHER - [0:0]\n"
        "[3:180] -A FORWARD -j MINE\n-A FORWARD -j OTHER\n-A MINE -j RETURN\n-A OTHER -j DROP\nCOMMIT\n"
    )

    def outcome(self, *changes: str) -> str:
        ruleset = parse_iptables(self.BASE)
        for change in changes:
            ruleset = parse_iptables(f"*filter\n{change}\nCOMMIT\n", onto=ruleset)
        return only(ruleset, PACKET).outcome

    def test_without_a_change(self):
        assert self.outcome() == "dropped"

    def test_a_declared_chain_is_emptied_the_others_stay(self):
        assert self.outcome(":OTHER - [0:0]") == "unhandled"
        assert self.outcome(":MINE - [0:0]") == "dropped"

    @pytest.mark.parametrize(
        "change",
        ["-I MINE -j ACCEPT", "-I FORWARD 2 -j ACCEPT", "-D FORWARD -j OTHER", "-D FORWARD 2", "-F OTHER", "-F"],
    )
    def test_insert_delete_flush(self, change: str):
        assert self.outcome(change) == "unhandled"

    def test_policy(self):
        assert self.outcome("-F", ":FORWARD DROP [0:0]") == "dropped"
        assert self.outcome("-F", "-P FORWARD DROP") == "dropped"

    def test_a_chain_can_come_and_go(self):
        assert self.outcome("-N NEW", "-A NEW -j ACCEPT", "-I FORWARD -g NEW") == "unhandled"
        assert self.outcome("-D FORWARD -j MINE", "-F MINE", "-X MINE") == "dropped"

    def test_the_ruleset_before_is_not_changed(self):
        before = parse_iptables(self.BASE)
        parse_iptables("*filter\n-F\nCOMMIT\n", onto=before)
        assert only(before, PACKET).outcome == "dropped"


REFUSED = [
    ("-m set --match-set x src -j DROP", "match 'set' is not known"),
    ("-m owner --uid-owner 0 -j DROP", "match 'owner'"),
    ("-m physdev --physdev-is-bridged -j DROP", "only --physdev-is-in"),
    ("-j NETMAP --to 10.0.0.0/8", "NETMAP"),
    ("-j NOWHERE", "NOWHERE is neither a target known here nor a chain"),
    ("--nonsense 5 -j DROP", "option '--nonsense'"),
    ("-p tcp --dport http -j DROP", "http"),
    ("-p vrrp -j DROP", "protocol 'vrrp'"),
    ("-s 10.0.0.0/40 -j DROP", "prefix length"),
    ("-s example.com -j DROP", "example.com"),
    ("-s fd00::1 -j DROP", "family"),
    ("-s ! 10.0.0.1 -j DROP", "before -s"),
    ("-m addrtype --dst-type BLACKHOLE -j DROP", "BLACKHOLE"),
    ("-m conntrack --ctstate WRONG -j DROP", "WRONG"),
    ("-m conntrack --ctexpire 5 -j DROP", "--ctexpire"),
    ("-m recent --rcheck --hitcount 5 -j DROP", "--hitcount"),
    ("-m recent --name x -j DROP", "exactly one of"),
    ("-m statistic --mode sometimes -j DROP", "mode 'sometimes'"),
    ("-m statistic --mode random --probability 2 -j DROP", "between 0 and 1"),
    ("-p tcp --dport 80 --dport 81 -j DROP", "given twice"),
    ("-p tcp --dport", "needs 1 argument"),
    ("-j", "needs an argument"),
    ("-j DROP --reject-with tcp-reset", "--reject-with"),
    ("-p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
    ("-j CT --zone 5", "only --notrack"),
    ("-m mark --mark ten -j DROP", "ten"),
]


@pytest.mark.parametrize(("rule", "words"), REFUSED)
def test_what_is_not_known_is_refused_with_its_line(rule: str, words: str):
    text = f"# Generated\n*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j ACCEPT\n-A FORWARD {rule}\nCOMMIT\n"
    with pytest.raises(Unsupported) as refused:
        parse_iptables(text)
    assert refused.value.line == 5
    assert refused.value.text == f"-A FORWARD {rule}"
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-A FORWARD -j DROP\n", "expected a line `\\*table`"),
        ("*fliter\n", "table 'fliter'"),
        ("*filter\n-A NOWHERE -j DROP\n", "no chain 'NOWHERE'"),
        ("*filter\n:MINE ACCEPT [0:0]\n", "built-in"),
        ("*filter\n:FORWARD QUEUE [0:0]\n", "QUEUE"),
        ("*filter\n:FORWARD\n", "expected `:CHAIN POLICY"),
        ("*filter\n-Z FORWARD\n", "command '-Z'"),
        ("*filter\n-X MINE\n", "MINE"),
        ("*filter\n-D FORWARD -j DROP\n", "no such rule"),
    ],
)
def test_other_faults(text: str, words: str):
    with pytest.raises(RulesetError, match=words):
        parse_iptables(text)


def test_a_known_connection_goes_where_its_first_packet_went():
    text = "*nat\n-A PREROUTING -p tcp -j DNAT --to-destination 10.180.0.7:8080\nCOMMIT\n"
    known = replace(PACKET, ct_state="established", translation=Translation("10.180.0.8", 9090, "192.168.0.2", 5))
    prediction = only(parse_iptables(text), known)
    assert prediction.endpoint == "10.180.0.8:9090"
    assert (prediction.packet.src, prediction.packet.sport) == ("192.168.0.2", 5)


@pytest.mark.parametrize(
    ("packet", "bridge", "expected"),
    [
        (PACKET, True, True),
        (PACKET, False, False),
        (replace(PACKET, src="192.168.0.2", in_interface=""), None, False),
    ],
)
def test_who_came_over_a_bridge(packet: Packet, bridge: bool | None, expected: bool):
    host = replace(NODE, interfaces=(replace(NODE.interfaces[0], bridge=bridge), *NODE.interfaces[1:]))
    text = "*mangle\n-A POSTROUTING -m physdev --physdev-is-in -j MARK --set-mark 1\nCOMMIT\n"
    assert (only(parse_iptables(text), packet, host).packet.mark == 1) is expected


def test_a_bridge_that_nobody_told_of():
    text = "*filter\n-A FORWARD -m physdev ! --physdev-is-in -j DROP\nCOMMIT\n"
    with pytest.raises(Unforeseeable, match=r"line 2: .*Interface.bridge"):
        outcomes(parse_iptables(text), PACKET, NODE)


def test_masquerade_takes_the_address_in_the_next_hops_network():
    host = replace(NODE, interfaces=(Interface("cni0", ("10.9.0.1/24", "10.180.0.254/24")), *NODE.interfaces[:2]))
    ruleset = parse_iptables("*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n")
    assert only(ruleset, PACKET, host).source == "10.180.0.254"
