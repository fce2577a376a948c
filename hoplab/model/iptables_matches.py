"""The matches of iptables rules as functions of a packet: one entry in a table for each module.

A module names its options with their number of arguments and builds steps from what was given.  Most are plain tests;
`statistic` splits the packet's fate, `recent` leaves something behind for later packets.

Source: iptables-extensions(8); kernel net/netfilter/xt_*.c of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from hoplab.model.routing import address_type, has_way_back
from hoplab.model.rules import BREAK, CARRY_ON, Action, Family, Test, Verdict
from hoplab.model.state import CT_STATES, PROTOCOLS, TCP_FLAGS, WITH_PORTS, State, Unforeseeable, network

Step = Test | tuple[Literal["action"], Action]


@dataclass(slots=True)
class Options:
    """The options given to one module: name -> (negated, arguments)."""

    given: dict[str, tuple[bool, list[str]]] = field(default_factory=dict)

    def add(self, option: str, negated: bool, arguments: list[str], count: int) -> None:
        """Note an option; raises ValueError when arguments are missing or it was given before."""
        name = ALIASES.get(option, option)
        if len(arguments) < count:
            raise ValueError(f"option {option} needs {count} argument(s)")
        if name in self.given:
            raise ValueError(f"option {option} is given twice")
        self.given[name] = (negated, arguments)

    def argument(self, option: str, default: str | None = None) -> str:
        """The first argument; raises ValueError when the option is missing and has no default."""
        if option in self.given:
            return self.given[option][1][0]
        if default is None:
            raise ValueError(f"option {option} is missing")
        return default

    def negated(self, option: str) -> bool:
        """Whether '!' stood before it."""
        return option in self.given and self.given[option][0]

    def refuse(self, *options: str) -> None:
        """Raise ValueError when one of these was given: they are known, but can't be foretold."""
        for each in options:
            if each in self.given:
                raise ValueError(f"option {each} is not supported here")

    def __bool__(self) -> bool:
        return bool(self.given)

    def __contains__(self, option: str) -> bool:
        return option in self.given


ALIASES = {
    "--source-port": "--sport", "--destination-port": "--dport", "--source-ports": "--sports",
    "--destination-ports": "--dports", "--icmpv6-type": "--icmp-type",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Module:
    """A match module: its options' argument counts, and what makes steps of them."""

    options: Mapping[str, int]
    build: Callable[[Options, Family], Iterable[Step]]


def protocol_number(text: str) -> int:
    """The number of a protocol name or number, 0 for all; raises ValueError."""
    if text.isdigit():
        return int(text)
    if text == "all":
        return 0
    if text not in PROTOCOLS:
        raise ValueError(f"protocol {text!r} is not known here (write its number)")
    return PROTOCOLS[text]


def ip_header(family: Family, given: Mapping[str, tuple[bool, str]]) -> list[Test]:
    """The tests of -s, -d, -i, -o and -p."""
    tests: list[Test] = []
    for option, (negated, text) in given.items():
        if option == "-p":
            tests += _protocol(negated, text)
        elif option in ("-i", "-o"):
            tests.append(_interface(option, negated, text))
        else:
            tests.append(_address(family, option, negated, text))
    return tests


def _protocol(negated: bool, text: str) -> list[Test]:
    number = protocol_number(text)
    if number == 0 and not negated:
        return []
    if negated:
        return [lambda state: state.protocol != number]
    return [lambda state: state.protocol == number]


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


def _port_range(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    first = int(low) if low else 0
    last = (int(high) if high else 65535) if colon else first
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"{text!r} is not a port or a range of ports")
    return first, last


def _ports(options: Options, _family: Family) -> Iterable[Step]:
    if "--dport" in options:
        low, high, unlike = *_port_range(options.argument("--dport")), options.negated("--dport")
        yield lambda state: state.protocol in WITH_PORTS and (low <= state.dport <= high) != unlike
    if "--sport" in options:
        first, last, not_sport = *_port_range(options.argument("--sport")), options.negated("--sport")
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
        ranges = [_port_range(each) for each in options.argument(option).split(",")]
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


def value_and_mask(text: str) -> tuple[int, int]:
    """VALUE[/MASK] of mark options; raises ValueError."""
    value, slash, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF


def _mark(options: Options, _family: Family) -> Iterable[Step]:
    value, mask = value_and_mask(options.argument("--mark"))
    negated = options.negated("--mark")
    yield lambda state: (state.mark & mask == value) != negated


def _connmark(options: Options, _family: Family) -> Iterable[Step]:
    value, mask = value_and_mask(options.argument("--mark"))
    negated = options.negated("--mark")
    yield lambda state: state.tracked and (state.ct_mark & mask == value) != negated


def _state(options: Options, _family: Family) -> Iterable[Step]:
    yield _ct_state(options.argument("--state"), options.negated("--state"))


def _ct_state(text: str, negated: bool) -> Test:
    names = [each.lower() for each in text.split(",")]
    unknown = set(names) - {*CT_STATES, "snat", "dnat"}
    if unknown:
        raise ValueError(f"connection state {', '.join(sorted(unknown)).upper()} is not known here")
    bits = sum(bit for name, bit in CT_STATES.items() if name in names)
    by_snat, by_dnat = "snat" in names, "dnat" in names

    def holds(state: State) -> bool:
        found: bool = bool(state.ct_state & bits) or (by_snat and state.snat) or (by_dnat and state.dnat)
        return found != negated

    return holds


def _conntrack(options: Options, family: Family) -> Iterable[Step]:
    options.refuse("--ctreplsrc", "--ctrepldst", "--ctreplsrcport", "--ctrepldstport", "--ctexpire")
    for option, (negated, arguments) in options.given.items():
        text = arguments[0]
        if option == "--ctstate":
            yield _ct_state(text, negated)
        elif option == "--ctstatus":
            yield _ct_status(text, negated)
        elif option == "--ctdir":
            yield _direction(text)
        elif option == "--ctproto":
            yield from _tracked(_protocol(negated, text))
        elif option in ("--ctorigsrc", "--ctorigdst"):
            _, net, mask = network(text)
            yield _original_address(option, net, mask, negated)
        else:
            yield _original_port(option, _port_range(text), negated)


def _direction(text: str) -> Test:
    if text not in ("ORIGINAL", "REPLY"):
        raise ValueError(f"connection direction {text!r} is not ORIGINAL or REPLY")
    wanted = text == "REPLY"
    return lambda state: state.tracked and state.reply == wanted


def _tracked(tests: Iterable[Test]) -> Iterable[Test]:
    yield lambda state: state.tracked
    yield from tests


def _original_address(option: str, net: int, mask: int, negated: bool) -> Test:
    source = option == "--ctorigsrc"
    return lambda state: (
        state.tracked and ((state.original_src if source else state.original_dst) & mask == net) != negated
    )


def _original_port(option: str, ports: tuple[int, int], negated: bool) -> Test:
    low, high = ports
    source = option == "--ctorigsrcport"

    def holds(state: State) -> bool:
        port = state.original_sport if source else state.original_dport
        if port is None:
            raise Unforeseeable("a rule looks at a source port that a masquerade chose at random")
        return state.tracked and (low <= port <= high) != negated

    return holds


def _ct_status(text: str, negated: bool) -> Test:
    names = set(text.split(","))
    unknown = names - {"EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED"}
    if unknown:
        raise ValueError(f"connection status {', '.join(sorted(unknown))} is not supported here")

    def holds(state: State) -> bool:
        if not state.tracked:
            return False
        answered = state.ct_state == CT_STATES["established"]
        if answered and names & {"ASSURED", "EXPECTED"} and not names & {"SEEN_REPLY", "CONFIRMED"}:
            raise Unforeseeable("a rule looks at whether a connection is assured, which its history decides")
        return (answered and bool(names & {"SEEN_REPLY", "CONFIRMED"})) != negated

    return holds


EXACT_DENOMINATORS = 46340
"""Up to here all fractions 1/n have different 31-bit encodings (n squared stays below 2 to the 31)."""


def probability_of(text: str) -> Fraction:
    """The probability that the kernel makes of `--probability`, as the fraction that was meant.

    The kernel keeps 31 bits; the simplest fraction with the same 31 bits is what the author meant (0.3333333333 and
    iptables-save's 0.33333333349 are both 1/3).  Source: libxt_statistic.c, xt_statistic.c.
    """
    wanted = Fraction(text)
    if not 0 <= wanted <= 1:
        raise ValueError(f"probability {text} is not between 0 and 1")
    kept = Fraction(round(wanted * (1 << 31)), 1 << 31)
    simple = kept.limit_denominator(EXACT_DENOMINATORS)
    return simple if round(simple * (1 << 31)) == kept * (1 << 31) else kept


def _statistic(options: Options, _family: Family) -> Iterable[Step]:
    mode = options.argument("--mode")
    if mode == "random":
        chance, negated = probability_of(options.argument("--probability")), options.negated("--probability")
        assumption = ""
    elif mode == "nth":
        every, negated = int(options.argument("--every")), options.negated("--every")
        if every < 1:
            raise ValueError("--every needs a number above 0")
        chance, assumption = Fraction(1, every), "statistic nth counts packets: each turn is taken as equally probable"
    else:
        raise ValueError(f"statistic mode {mode!r} is not random or nth")
    yield ("action", split(1 - chance if negated else chance, assumption))


def split(chance: Fraction, assumption: str = "") -> Action:
    """A match that chance decides."""

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        if chance:
            yield state.share(chance, assumption), CARRY_ON
        if chance != 1:
            yield state.share(1 - chance, assumption), BREAK

    return step


def _limit(_options: Options, _family: Family) -> Iterable[Step]:
    yield ("action", split(Fraction(1), "a rate limit was met: taken as not exhausted"))


def _recent(options: Options, family: Family) -> Iterable[Step]:
    options.refuse("--hitcount", "--rttl", "--remove")
    modes = [each for each in ("--set", "--rcheck", "--update") if each in options]
    if len(modes) != 1:
        raise ValueError("recent needs exactly one of --set, --rcheck, --update")
    mask = (
        network(f"{'0.0.0.0' if family == 'ip' else '::'}/{options.argument('--mask')}")[2]
        if "--mask" in options
        else -1
    )
    name = options.argument("--name", "DEFAULT")
    yield ("action", _recent_step(modes[0], name, mask, "--rdest" in options, options.negated(modes[0])))


def _recent_step(mode: str, name: str, mask: int, by_destination: bool, negated: bool) -> Action:
    where = ("xt_recent", "", name)

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        address = (state.dst if by_destination else state.src) & mask
        found = mode == "--set" or address in state.host.memory.get(where, {})
        after = state
        if mode == "--set" or (mode == "--update" and found):
            after = state.but(remembers=(*state.remembers, (*where, address, True)))
        yield after, CARRY_ON if found != negated else BREAK

    return step


def _rpfilter(options: Options, _family: Family) -> Iterable[Step]:
    options.refuse("--validmark", "--accept-local")
    loose, inverted = "--loose" in options, "--invert" in options

    def holds(state: State) -> bool:
        passes = state.in_interface == "lo" or has_way_back(state, "" if loose else state.in_interface)
        return passes != inverted

    yield holds


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
        "mark": Module({"--mark": 1}, _mark),
        "connmark": Module({"--mark": 1}, _connmark),
        "state": Module({"--state": 1}, _state),
        "conntrack": Module(
            dict.fromkeys(
                (
                    "--ctstate", "--ctstatus", "--ctdir", "--ctproto", "--ctorigsrc", "--ctorigdst", "--ctorigsrcport",
                    "--ctorigdstport", "--ctreplsrc", "--ctrepldst", "--ctreplsrcport", "--ctrepldstport", "--ctexpire",
                ),
                1,
            ),
            _conntrack,
        ),
        "statistic": Module({"--mode": 1, "--probability": 1, "--every": 1, "--packet": 1}, _statistic),
        "recent": Module(
            {
                "--set": 0, "--rcheck": 0, "--update": 0, "--remove": 0, "--seconds": 1, "--reap": 0, "--hitcount": 1,
                "--rttl": 0, "--name": 1, "--rsource": 0, "--rdest": 0, "--mask": 1,
            },
            _recent,
        ),
        "rpfilter": Module(
            {"--loose": 0, "--validmark": 0, "--accept-local": 0, "--invert": 0}, _rpfilter
        ),
        "limit": Module({"--limit": 1, "--limit-burst": 1}, _limit),
        "nfacct": Module({"--nfacct-name": 1}, _nothing),
        "comment": Module({"--comment": 1}, _nothing),
    }
)  # fmt: skip
"""Every match module that is known, by its name after `-m`."""
