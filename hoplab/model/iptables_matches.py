"""The matches of iptables rules as functions of a packet: one entry in a table for each module.

A module names its options with their number of arguments and builds steps from what was given.  Those here read the
packet's own headers and the interfaces; `iptables_stateful` has the others.

Source: iptables-extensions(8); kernel net/netfilter/xt_*.c of the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hoplab.model.iptables_options import Module, Options, Step, port_range, protocol_tests
from hoplab.model.iptables_stateful import connmark, conntrack, limit, mark, recent, rpfilter, state, statistic
from hoplab.model.routing import address_type
from hoplab.model.rules import Family, Test
from hoplab.model.state import TCP_FLAGS, WITH_PORTS, State, Unforeseeable, network


def ip_header(family: Family, given: Mapping[str, tuple[bool, str]]) -> list[Test]:
    """The tests of -s, -d, -i, -o and -p."""
    tests: list[Test] = []
    for option, (negated, text) in given.items():
        if option == "-p":
            tests += protocol_tests(negated, text)
        elif option in ("-i", "-o"):
            tests.append(_interface(option, negated, text))
        else:
            tests.append(_address(family, option, negated, text))
    return tests


def _interface(option: str, negated: bool, text: str) -> Test:
    name, incoming = text.removesuffix("+"), option == "-i"
    if text.endswith("+"):
        return lambda state: ((state.in_interface if incoming else state.out_interface).startswith(name)) != negated
    return lambda state: ((state.in_interface if incoming else state.out_interface) == name) != negated


def _address(family: Family, option: str, negated: bool, text: str) -> Test:
    version, net, mask = network(text)
    if version != (4 if family == "ip" else 6):
        raise ValueError(f"address {text} is not of the table's family {family}")
    if option == "-s":
        return lambda state: (state.src & mask == net) != negated
    return lambda state: (state.dst & mask == net) != negated


def _ports(options: Options, _family: Family) -> Iterable[Step]:
    if "--dport" in options:
        low, high, unlike = *port_range(options.argument("--dport")), options.negated("--dport")
        yield lambda state: state.protocol in WITH_PORTS and (low <= state.dport <= high) != unlike
    if "--sport" in options:
        first, last, not_sport = *port_range(options.argument("--sport")), options.negated("--sport")
        yield lambda state: state.protocol in WITH_PORTS and (first <= state.source_port <= last) != not_sport


def _tcp(options: Options, family: Family) -> Iterable[Step]:
    options.refuse("--tcp-option")
    yield from _ports(options, family)
    if "--syn" in options:
        yield _flags(_bits("FIN,SYN,RST,ACK"), _bits("SYN"), options.negated("--syn"))
    if "--tcp-flags" in options:
        negated, (mask, wanted) = options.given["--tcp-flags"]
        yield _flags(_bits(mask), _bits(wanted), negated)


def _flags(mask: int, wanted: int, negated: bool) -> Test:
    return lambda state: state.protocol == 6 and (state.tcp_flags & mask == wanted) != negated


def _bits(text: str) -> int:
    if text == "ALL":
        return 0x3F
    if text == "NONE":
        return 0
    return sum(TCP_FLAGS[each.lower()] for each in text.split(","))


def _multiport(options: Options, _family: Family) -> Iterable[Step]:
    for option in options.given:
        ranges = [port_range(each) for each in options.argument(option).split(",")]
        yield _many_ports(option, ranges, options.negated(option))


def _many_ports(option: str, ranges: list[tuple[int, int]], negated: bool) -> Test:
    def holds(state: State) -> bool:
        if state.protocol not in WITH_PORTS:
            return False
        ports = [state.dport] if option in ("--dports", "--ports") else []
        if option in ("--sports", "--ports"):
            ports.append(state.source_port)
        return any(low <= port <= high for port in ports for low, high in ranges) != negated

    return holds


ICMP_NAMES: Mapping[int, Mapping[str, tuple[int, int | None]]] = {
    4: {
        "any": (255, None), "echo-reply": (0, None), "pong": (0, None), "destination-unreachable": (3, None),
        "network-unreachable": (3, 0), "host-unreachable": (3, 1), "protocol-unreachable": (3, 2),
        "port-unreachable": (3, 3), "fragmentation-needed": (3, 4), "redirect": (5, None), "echo-request": (8, None),
        "ping": (8, None), "time-exceeded": (11, None), "ttl-exceeded": (11, None), "parameter-problem": (12, None),
    },
    6: {
        "destination-unreachable": (1, None), "packet-too-big": (2, None), "time-exceeded": (3, None),
        "parameter-problem": (4, None), "echo-request": (128, None), "ping": (128, None), "echo-reply": (129, None),
        "pong": (129, None), "router-solicitation": (133, None), "router-advertisement": (134, None),
        "neighbour-solicitation": (135, None), "neighbor-solicitation": (135, None),
        "neighbour-advertisement": (136, None), "neighbor-advertisement": (136, None),
    },
}  # fmt: skip
"""ICMP types by iptables' names: (type, code or any)."""


def _icmp(options: Options, family: Family) -> Iterable[Step]:
    text, negated = options.argument("--icmp-type"), options.negated("--icmp-type")
    number, version = (1, 4) if family == "ip" else (58, 6)
    kind, slash, code = text.partition("/")
    wanted: tuple[int, int | None]
    if kind.isdigit():
        wanted = (int(kind), int(code) if slash else None)
    elif text in ICMP_NAMES[version]:
        wanted = ICMP_NAMES[version][text]
    else:
        raise ValueError(f"ICMP type {text!r} is not known here (write its number)")
    if wanted[0] == 255 and version == 4:
        yield lambda state: state.protocol == number
        return
    yield (
        lambda state: (
            state.protocol == number
            and ((state.icmp_type == wanted[0] and wanted[1] in (None, state.icmp_code)) != negated)
        )
    )


def _addrtype(options: Options, _family: Family) -> Iterable[Step]:
    for option in ("--src-type", "--dst-type"):
        if option in options:
            yield _type_test(option, options)


def _type_test(option: str, options: Options) -> Test:
    kinds = frozenset(each.lower() for each in options.argument(option).split(","))
    unknown = kinds - {"local", "unicast", "broadcast", "multicast", "anycast", "unspec"}
    if unknown:
        raise ValueError(f"address type {', '.join(sorted(unknown)).upper()} is not supported here")
    negated, source = options.negated(option), option == "--src-type"
    by_in, by_out = "--limit-iface-in" in options, "--limit-iface-out" in options

    def holds(state: State) -> bool:
        interface = state.in_interface if by_in else state.out_interface if by_out else ""
        found = address_type(state.host, state.version, state.src if source else state.dst, interface)
        return (found in kinds) != negated

    return holds


def _physdev(options: Options, _family: Family) -> Iterable[Step]:
    if list(options.given) != ["--physdev-is-in"]:
        raise ValueError("of match physdev only --physdev-is-in is supported here")
    negated = options.negated("--physdev-is-in")
    yield lambda state: _came_over_a_bridge(state) != negated


def _came_over_a_bridge(state: State) -> bool:
    """Whether a bridge's port brought the packet: then br_netfilter has noted it, for routed packets as well."""
    interface = state.host.by_name.get(state.in_interface)
    if state.in_interface in ("", "lo"):
        return False
    if interface is None or interface.bridge is None:
        raise Unforeseeable(
            f"a rule asks whether the packet came over a bridge, and of {state.in_interface} that isn't known; "
            "say so in Interface.bridge"
        )
    return interface.bridge


def _nothing(_options: Options, _family: Family) -> Iterable[Step]:
    return ()


_PORTS = {"--sport": 1, "--source-port": 1, "--dport": 1, "--destination-port": 1}

MATCHES: Mapping[str, Module] = MappingProxyType(
    {
        "tcp": Module({**_PORTS, "--tcp-flags": 2, "--syn": 0, "--tcp-option": 1}, _tcp),
        "udp": Module(_PORTS, _ports),
        "udplite": Module(_PORTS, _ports),
        "sctp": Module(_PORTS, _ports),
        "dccp": Module(_PORTS, _ports),
        "icmp": Module({"--icmp-type": 1}, _icmp),
        "icmp6": Module({"--icmpv6-type": 1, "--icmp-type": 1}, _icmp),
        "icmpv6": Module({"--icmpv6-type": 1, "--icmp-type": 1}, _icmp),
        "multiport": Module(
            {"--sports": 1, "--source-ports": 1, "--dports": 1, "--destination-ports": 1, "--ports": 1}, _multiport
        ),
        "addrtype": Module(
            {"--src-type": 1, "--dst-type": 1, "--limit-iface-in": 0, "--limit-iface-out": 0}, _addrtype
        ),
        "mark": Module({"--mark": 1}, mark),
        "connmark": Module({"--mark": 1}, connmark),
        "state": Module({"--state": 1}, state),
        "conntrack": Module(
            dict.fromkeys(
                (
                    "--ctstate", "--ctstatus", "--ctdir", "--ctproto", "--ctorigsrc", "--ctorigdst", "--ctorigsrcport",
                    "--ctorigdstport", "--ctreplsrc", "--ctrepldst", "--ctreplsrcport", "--ctrepldstport", "--ctexpire",
                ),
                1,
            ),
            conntrack,
        ),
        "statistic": Module({"--mode": 1, "--probability": 1, "--every": 1, "--packet": 1}, statistic),
        "recent": Module(
            {
                "--set": 0, "--rcheck": 0, "--update": 0, "--remove": 0, "--seconds": 1, "--reap": 0, "--hitcount": 1,
                "--rttl": 0, "--name": 1, "--rsource": 0, "--rdest": 0, "--mask": 1,
            },
            recent,
        ),
        "rpfilter": Module(
            {"--loose": 0, "--validmark": 0, "--accept-local": 0, "--invert": 0}, rpfilter
        ),
        "limit": Module({"--limit": 1, "--limit-burst": 1}, limit),
        "physdev": Module(
            dict.fromkeys(("--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged"), 0), _physdev
        ),
        "nfacct": Module({"--nfacct-name": 1}, _nothing),
        "comment": Module({"--comment": 1}, _nothing),
    }
)  # fmt: skip
"""Every match module that is known, by its name after `-m`."""
