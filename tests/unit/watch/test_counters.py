"""Counters as the kernel prints them, and what grew between two looks."""

from hoplab.watch.counters import growth, values

SNMP = "Ip: Forwarding InAddrErrors ForwDatagrams\nIp: 1 {} 40\nUdp: InDatagrams NoPorts\nUdp: 3 0\n"
NETSTAT = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 0 {}\nIpExt: InNoRoutes\nIpExt: 2\n"
DEV = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
    "  eth0: 1000 10 0 {} 0 0 0 0 2000 20 0 4 0 0 0 0\n"
)
CONNTRACK = (
    "entries  searched found new invalid ignore delete drop early_drop\n0000000b 00 00 00 0000000{} 00 00 01 00\n"
)
CONNTRACK += "0000000b 00 00 00 00000001 00 00 02 00\n"


def texts(a, b, c, d):
    return {
        "snmp": SNMP.format(a),
        "netstat": NETSTAT.format(b),
        "dev": DEV.format(c),
        "stat/nf_conntrack": CONNTRACK.format(d),
    }


def test_every_source_has_its_names():
    found = values(texts(5, 6, 7, 8))
    assert found["Ip.InAddrErrors"] == 5
    assert found["Udp.NoPorts"] == 0
    assert found["TcpExt.IPReversePathFilter"] == 6
    assert found["IpExt.InNoRoutes"] == 2
    assert (found["eth0.rx_drop"], found["eth0.tx_drop"]) == (7, 4)
    # Hexadecimal, and a line for each processor.
    assert (found["conntrack.invalid"], found["conntrack.drop"]) == (9, 3)
    assert "conntrack.entries" not in found


def test_only_what_grew_is_told():
    assert growth(texts(5, 6, 7, 8), texts(5, 8, 7, 9)) == {"TcpExt.IPReversePathFilter": 2, "conntrack.invalid": 1}
    assert growth({}, texts(0, 1, 0, 0))["TcpExt.IPReversePathFilter"] == 1


def test_ipv6_has_a_line_for_each():
    assert values({"snmp6": "Ip6InAddrErrors   \t3\nIcmp6OutErrors 0\n"}) == {
        "Ip6.InAddrErrors": 3,
        "Icmp6.OutErrors": 0,
    }


def test_a_kernel_without_a_file_has_no_such_counters():
    assert values({}) == {}
    assert growth({}, {}) == {}
