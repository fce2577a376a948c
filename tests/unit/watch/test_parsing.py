"""What the kernel says, understood: netlink messages, rule traces, conntrack entries, listings of rules."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.evidence import RuleId, Tuple
from hoplab.watch.conntrack import DELETE, NEW, delete_request, parse_conntrack
from hoplab.watch.netlink_messages import NLM_F_CREATE, Message, attribute, attributes, messages, request
from hoplab.watch.rule_texts import base_chains, comment, join, saved_rules
from hoplab.watch.trace import NFT_MSG_TRACE, parse_trace

LISTING = """\
table ip nat { # handle 1
\tset hosts { # handle 9
\t\ttype ipv4_addr
\t\telements = { 10.0.0.1,
\t\t\t     10.0.0.2 }
\t}

\tchain PREROUTING { # handle 2
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\t # xt_comment counter packets 1 bytes 60 jump KUBE-SERVICES # handle 5
\t}

\tchain KUBE-SERVICES { # handle 3
\t\tmeta l4proto tcp ip daddr 10.0.0.167 counter packets 0 bytes 0 jump KUBE-SVC-A # handle 6
\t\tfib daddr type local counter packets 0 bytes 0 jump KUBE-NODEPORTS # handle 7
\t}
}
table inet mine { # handle 2
\tchain out { # handle 1
\t\ttype filter hook output priority filter - 5; policy drop;
\t\ttcp dport { 80,
\t\t\t    443 } accept comment "web" # handle 4
\t}
}
"""
SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.0.0.167/32 -p tcp -m comment --comment "default/web cluster IP" -j KUBE-SVC-A
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"""


def test_handles_get_the_text_that_their_own_tool_prints():
    rules = join("node1", LISTING, [saved_rules("ip", SAVED)])
    texts = {(i.table, i.chain, i.handle): rule.text for i, rule in rules.items()}
    assert texts["nat", "PREROUTING", 5].startswith("-A PREROUTING -m comment")
    assert texts["nat", "KUBE-SERVICES", 6].startswith("-A KUBE-SERVICES -d 10.0.0.167/32")
    assert texts["nat", "KUBE-SERVICES", 7].endswith("-j KUBE-NODEPORTS")
    assert texts["mine", "out", 4] == 'tcp dport { 80, 443 } accept comment "web"'
    assert rules[RuleId("node1", "ip", "nat", "KUBE-SERVICES", 6)].comment == "default/web cluster IP"
    assert rules[RuleId("node1", "inet", "mine", "out", 4)].comment == "web"


def test_lists_that_do_not_fit_are_not_joined():
    fewer = SAVED.replace("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n", "")
    rules = join("node1", LISTING, [saved_rules("ip", fewer)])
    text = rules[RuleId("node1", "ip", "nat", "KUBE-SERVICES", 6)].text
    assert text == "meta l4proto tcp ip daddr 10.0.0.167 jump KUBE-SVC-A"


def test_base_chains_have_hook_and_priority():
    found = {(c.table, c.chain): (c.hook, c.priority) for c in base_chains("node1", LISTING)}
    assert found == {("nat", "PREROUTING"): ("prerouting", -100), ("mine", "out"): ("output", -5)}


def test_comments_with_quotes_and_several_of_them():
    assert comment('-A X -m comment --comment "name: \\"a\\"" -j Y') == 'name: "a"'
    assert comment("-A X -m comment --comment plain -j Y") == "plain"
    assert comment("-A X -j Y") == ""


def number(kind, value, size=4):
    return attribute(kind, value.to_bytes(size, "big", signed=value < 0))


def trace(kind, *, verdict=(-3, "KUBE-SVC-A"), policy=None):
    code, chain = verdict
    nested = number(1, code) + (attribute(2, chain.encode() + b"\0") if chain else b"")
    payload = attribute(1, b"nat\0") + attribute(2, b"KUBE-SERVICES\0") + number(4, kind) + number(6, 0xABCD)
    payload += number(3, 6, 8) + attribute(5, nested, nested=True) + attribute(8, b"\x45" * 20) + number(10, 2)
    if policy is not None:
        payload += number(16, policy)
    return next(messages(request(NFT_MSG_TRACE, 0, 2, payload)))


def test_a_rule_that_jumped():
    event = parse_trace(trace(3), "node1", 5, lambda index: f"eth{index}")
    assert event is not None
    assert (event.kind, event.family, event.table, event.chain, event.handle) == (
        "rule",
        "ip",
        "nat",
        "KUBE-SERVICES",
        6,
    )
    assert event.verdict == "jump KUBE-SVC-A"
    assert (event.trace_id, event.in_interface, event.out_interface) == (0xABCD, "eth2", "")
    assert event.network_header == b"\x45" * 20


def test_policies_and_verdicts_have_their_words():
    assert parse_trace(trace(1, policy=0), "n", 0, str).verdict == "drop"
    assert parse_trace(trace(1, policy=1), "n", 0, str).verdict == "accept"
    for code, word in ((0, "drop"), (1, "accept"), (-1, "continue"), (-5, "return"), (0x00050003, "queue")):
        assert parse_trace(trace(3, verdict=(code, "")), "n", 0, str).verdict == word
    assert parse_trace(Message(NEW, 0, 2, b""), "n", 0, str) is None


def half(kind, source, target, protocol, sport, dport):
    addresses = attribute(1, source) + attribute(2, target)
    ports = (
        attribute(1, bytes([protocol]))
        + attribute(2, struct.pack("!H", sport))
        + attribute(3, struct.pack("!H", dport))
    )
    return attribute(kind, attribute(1, addresses, nested=True) + attribute(2, ports, nested=True), nested=True)


def test_an_entry_with_both_rewrites():
    client, vip, pod, node = (
        bytes([203, 0, 113, 10]),
        bytes([10, 0, 0, 1]),
        bytes([10, 1, 2, 3]),
        bytes([10, 240, 0, 11]),
    )
    payload = half(1, client, vip, 6, 40000, 80) + half(2, pod, node, 6, 8080, 1234) + number(12, 77) + number(3, 0x30)
    payload += attribute(4, attribute(1, attribute(1, b"\x03"), nested=True), nested=True)
    (message,) = messages(request(NEW, NLM_F_CREATE, 2, payload))
    event = parse_conntrack(message, "node1", 5)
    assert event is not None
    assert (event.kind, event.protocol, event.tcp_state, event.id, event.status) == (
        "new",
        "tcp",
        "ESTABLISHED",
        77,
        0x30,
    )
    assert event.original == Tuple("203.0.113.10", 40000, "10.0.0.1", 80)
    assert event.reply == Tuple("10.1.2.3", 8080, "10.240.0.11", 1234)
    asked = next(messages(delete_request(event)))
    again = parse_conntrack(Message(DELETE, 0, 2, asked.payload + half(2, pod, node, 6, 8080, 1234)), "node1", 5)
    assert again is not None
    assert (again.kind, again.original, again.id) == ("destroy", event.original, 77)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parsers(data):
    for message in messages(data):
        parse_trace(message, "n", 0, str)
        parse_conntrack(message, "n", 0)
    attributes(data)
    parse_trace(Message(NFT_MSG_TRACE, 0, 2, data), "n", 0, str)
    parse_conntrack(Message(NEW, 0, 2, data), "n", 0)


@given(st.dictionaries(st.integers(1, 100), st.binary(max_size=40), max_size=8))
def test_attributes_come_back_as_they_were_written(values):
    assert attributes(b"".join(attribute(kind, value) for kind, value in values.items())) == values
