"""nft's expressions: what a rule reads from a packet, computes, draws by lot or looks up in a map.

An expression gives one value, or None when the packet has no such thing (a port of an ICMP packet): then the rule
breaks off.  Where chance decides (numgen, or jhash whose seed or input is not known) it gives several, each with its
probability.

Source: nft(8), "Primary expressions", "Payload expressions"; kernel net/netfilter/nft_numgen.c, nft_hash.c,
net/ipv4/netfilter/nft_fib_ipv4.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from hoplab.model.jhash import scaled_jhash
from hoplab.model.nft_values import Value, elements, octets, scalar
from hoplab.model.nft_words import Words, shown
from hoplab.model.routing import address_type, has_way_back
from hoplab.model.rules import Collection, RulesetError
from hoplab.model.state import CT_STATES, WITH_PORTS, State, Unforeseeable

Get = Callable[[State], object]
Chance = tuple[Fraction, object, str]
"""Probability, value (None: no such thing), and what was assumed."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What gives a value: `get` when it is certain, else `spread`."""

    types: tuple[str, ...]
    get: Get | None = None
    spread: Callable[[State], Iterable[Chance]] | None = None
    masked: bool = False
    """Whether arithmetic left only some of the value's bits."""

    def chances(self, state: State) -> Iterable[Chance]:
        """Every value that it may have."""
        if self.get is not None:
            return ((Fraction(1), self.get(state), ""),)
        assert self.spread is not None
        return self.spread(state)


def expression(words: Words) -> Expression:
    """Read an expression: fields joined by dots, arithmetic on marks and flags, and a map behind it.

    Raises ValueError for what is not known here.
    """
    parts = [_term(words)]
    while words.accept("."):
        parts.append(_term(words))
    whole = parts[0] if len(parts) == 1 else _concatenated(parts)
    while words.accept("map"):
        whole = _mapped(words, whole)
    return whole


def typeof(words: Words) -> tuple[str, ...]:
    """The types of the expressions behind `typeof`."""
    found = _primary(words).types
    while words.accept("."):
        found += _primary(words).types
    return found


def _term(words: Words) -> Expression:
    if words.accept("("):
        term = expression(words)
        words.expect(")")
    else:
        term = _primary(words)
    strongest = 0
    while words.peek() in _OPERATORS:
        operator, rank = _OPERATORS[words.take()]
        if rank < strongest:
            raise ValueError("operators of different rank without parentheses are not supported here")
        strongest = rank
        term = _computed(term, operator, _flags(words, term.types[0]))
    return term


def _flags(words: Words, kind: str) -> int:
    """A number, a flag, or flags in parentheses joined by | or commas."""
    if not words.accept("("):
        return _number(scalar(words.take(), kind))
    value = _number(scalar(words.take(), kind))
    while words.accept("|") or words.accept(","):
        value |= _number(scalar(words.take(), kind))
    words.expect(")")
    return value


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError(f"expected a number, found {value!r}")
    return value


_AND, _XOR, _OR = (lambda a, b: a & b), (lambda a, b: a ^ b), (lambda a, b: a | b)
_OPERATORS: Mapping[str, tuple[Callable[[int, int], int], int]] = MappingProxyType(
    {"&": (_AND, 1), "and": (_AND, 1), "^": (_XOR, 2), "xor": (_XOR, 2), "|": (_OR, 3), "or": (_OR, 3)}
)


def _computed(term: Expression, operator: Callable[[int, int], int], operand: int) -> Expression:
    get = term.get
    if get is None:
        raise ValueError("arithmetic on a value that chance decides is not supported here")

    def computed(state: State) -> object:
        value = get(state)
        return operator(value, operand) & 0xFFFFFFFF if isinstance(value, int) else None

    return Expression(term.types, computed, masked=True)


def _concatenated(parts: list[Expression]) -> Expression:
    gets = [each.get for each in parts if each.get is not None]
    if len(gets) != len(parts):
        raise ValueError("a concatenation with a value that chance decides is not supported here")

    def joined(state: State) -> object:
        values = tuple(get(state) for get in gets)
        return None if None in values else values

    return Expression(tuple(kind for each in parts for kind in each.types), joined)


def _mapped(words: Words, key: Expression) -> Expression:
    find, types = lookup(words, key.types, ("auto",))
    get = key.get
    if get is not None:
        known = get

        def found(state: State) -> object:
            value = known(state)
            return None if value is None else find(state, value)

        return Expression(types, found)

    def spread(state: State) -> Iterable[Chance]:
        for chance, value, assumption in key.chances(state):
            yield chance, None if value is None else find(state, value), assumption

    return Expression(types, spread=spread)


Find = Callable[[State, object], object]


def lookup(words: Words, key_types: tuple[str, ...], value_types: tuple[str, ...]) -> tuple[Find, tuple[str, ...]]:
    """Read `@name` or `{ ... }`: a function that finds a key in it, and the types of its values."""
    if words.accept("@"):
        name = words.mention("set")

        def named(state: State, key: object) -> object:
            assert state.table is not None
            collection = state.table.collections.get(name)
            if collection is None:
                raise RulesetError(f"table {' '.join(state.table.key)} has no set or map {name!r}")
            return collection.find(key, state.host.memory)

        return named, value_types
    collection = Collection("", key_types, value_types)
    elements(words, collection)
    return (lambda state, key: collection.find(key, state.host.memory)), value_types


# --- primary expressions ---------------------------------------------------------------------------------------------


def _primary(words: Words) -> Expression:
    word = words.take()
    if word in _FIELDS:
        field = words.take()
        found = _FIELDS[word].get(field)
        if found is None:
            raise ValueError(f"field {word} {shown(field)} is not known here")
        return found
    if word == "meta":
        return _meta(words.take())
    if word in _UNQUALIFIED:
        return _meta(word)
    if word in _READERS:
        return _READERS[word](words)
    raise ValueError(f"expression {shown(word)} is not known here")


def _port(protocols: frozenset[int], *, source: bool) -> Expression:
    def get(state: State) -> object:
        if state.protocol not in protocols:
            return None
        return state.source_port if source else state.dport

    return Expression(("inet_service",), get)


def _address(version: int, *, source: bool) -> Expression:
    def get(state: State) -> object:
        if state.version != version:
            return None
        return state.src if source else state.dst

    return Expression(("ipv4_addr" if version == 4 else "ipv6_addr",), get)


def _protocol_of(version: int) -> Expression:
    return Expression(("inet_proto",), lambda state: state.protocol if state.version == version else None)


def _icmp(protocol: int, kind: str) -> Mapping[str, Expression]:
    return {
        "type": Expression((kind,), lambda state: state.icmp_type if state.protocol == protocol else None),
        "code": Expression(("integer",), lambda state: state.icmp_code if state.protocol == protocol else None),
    }


def _ports(*protocols: int) -> dict[str, Expression]:
    those = frozenset(protocols)
    return {"sport": _port(those, source=True), "dport": _port(those, source=False)}


_FIELDS: Mapping[str, Mapping[str, Expression]] = MappingProxyType(
    {
        "ip": {
            "saddr": _address(4, source=True), "daddr": _address(4, source=False), "protocol": _protocol_of(4),
        },
        "ip6": {
            "saddr": _address(6, source=True), "daddr": _address(6, source=False), "nexthdr": _protocol_of(6),
        },
        "tcp": {
            **_ports(6),
            "flags": Expression(("tcp_flag",), lambda state: state.tcp_flags if state.protocol == 6 else None),
        },
        "udp": _ports(17),
        "sctp": _ports(132),
        "dccp": _ports(33),
        "udplite": _ports(136),
        "th": _ports(*WITH_PORTS),
        "icmp": _icmp(1, "icmp_type"),
        "icmpv6": _icmp(58, "icmpv6_type"),
    }
)  # fmt: skip

_META: Mapping[str, Expression] = MappingProxyType(
    {
        "mark": Expression(("mark",), lambda state: state.mark),
        "l4proto": Expression(("inet_proto",), lambda state: state.protocol),
        "nfproto": Expression(("nf_proto",), lambda state: 2 if state.version == 4 else 10),
        "protocol": Expression(("ether_type",), lambda state: 0x0800 if state.version == 4 else 0x86DD),
        "iifname": Expression(("ifname",), lambda state: state.in_interface),
        "oifname": Expression(("ifname",), lambda state: state.out_interface),
        "iif": Expression(("iface_index",), lambda state: state.in_interface or None),
        "oif": Expression(("iface_index",), lambda state: state.out_interface or None),
    }
)
_UNQUALIFIED = frozenset(("mark", "iifname", "oifname", "iif", "oif"))


def _meta(key: str) -> Expression:
    if key not in _META:
        raise ValueError(f"meta {shown(key)} is not known here")
    return _META[key]


def _status(state: State) -> object:
    if not state.tracked:
        return None
    answered = 2 | 8 if state.ct_state == CT_STATES["established"] else 0
    return answered | (16 if state.snat else 0) | (32 if state.dnat else 0)


_CT: Mapping[str, Expression] = MappingProxyType(
    {
        "state": Expression(("ct_state",), lambda state: state.ct_state),
        "status": Expression(("ct_status",), _status),
        "mark": Expression(("mark",), lambda state: state.ct_mark if state.tracked else None),
        "direction": Expression(("ct_dir",), lambda state: int(state.reply) if state.tracked else None),
        "protocol": Expression(("inet_proto",), lambda state: state.protocol if state.tracked else None),
        "saddr": Expression(("auto",), lambda state: state.original_src if state.tracked else None),
        "daddr": Expression(("auto",), lambda state: state.original_dst if state.tracked else None),
        "proto-dst": Expression(("inet_service",), lambda state: state.original_dport if state.tracked else None),
    }
)


def _ct(words: Words) -> Expression:
    original = words.accept("original")
    if words.peek() in ("ip", "ip6"):
        words.take()
    key = words.take()
    if key not in _CT or (key in ("saddr", "daddr", "proto-dst") and not original):
        raise ValueError(f"ct {shown(key)} is not known here")
    return _CT[key]


def _fib(words: Words) -> Expression:
    inputs = {words.take()}
    while words.accept("."):
        inputs.add(words.take())
    result = words.take()
    source = "saddr" in inputs
    if len(inputs & {"saddr", "daddr"}) != 1 or inputs - {"saddr", "daddr", "iif", "oif"}:
        raise ValueError(f"fib over {', '.join(sorted(inputs))} is not supported here")

    def interface(state: State) -> str:
        return state.in_interface if "iif" in inputs else state.out_interface if "oif" in inputs else ""

    if result == "type":
        return Expression(
            ("fib_addrtype",),
            lambda state: address_type(state.host, state.version, state.src if source else state.dst, interface(state)),
        )
    if result == "oif" and source:
        return Expression(
            ("boolean",), lambda state: int(state.in_interface == "lo" or has_way_back(state, interface(state)))
        )
    raise ValueError(f"fib {'saddr' if source else 'daddr'} {shown(result)} is not supported here")


def _modulus(words: Words) -> int:
    words.expect("mod")
    modulus = words.number()
    if modulus < 1:
        raise ValueError("a modulus must be at least 1")
    return modulus


def _offset(words: Words) -> int:
    return words.number() if words.accept("offset") else 0


def _uniform(modulus: int, offset: int, assumption: str) -> list[Chance]:
    part = Fraction(1, modulus)
    return [(part, offset + index, assumption) for index in range(modulus)]


def _numgen(words: Words) -> Expression:
    mode = words.take()
    if mode not in ("random", "inc"):
        raise ValueError(f"numgen {shown(mode)} is not random or inc")
    assumption = "" if mode == "random" else "numgen inc counts: each turn is taken as equally probable"
    values = _uniform(_modulus(words), _offset(words), assumption)
    return Expression(("integer",), spread=lambda state: values)


def _jhash(words: Words) -> Expression:
    key = expression(words)
    modulus = _modulus(words)
    seed = words.number() if words.accept("seed") else None
    offset = _offset(words)
    get, types = key.get, key.types
    if get is None:
        raise ValueError("a hash over a value that chance decides is not supported here")
    for kind in types:
        octets("" if kind == "ifname" else 0, kind)
    if seed is None:
        unknown = _uniform(modulus, offset, "jhash has a seed that the kernel chose: each value is equally probable")
        return Expression(("integer",), spread=lambda state: unknown)
    known_seed, blind = seed, "jhash over a source port not known: each value is taken as equally probable"

    def spread(state: State) -> Iterable[Chance]:
        try:
            value = get(state)
        except Unforeseeable:
            return _uniform(modulus, offset, blind)
        if value is None:
            return ((Fraction(1), None, ""),)
        parts = value if isinstance(value, tuple) else (value,)
        data = b"".join(_register(octets(each, kind), len(parts)) for each, kind in zip(parts, types, strict=True))
        return ((Fraction(1), scaled_jhash(data, modulus, known_seed, offset), ""),)

    return Expression(("integer",), spread=spread)


def _register(data: bytes, fields: int) -> bytes:
    """A field of a concatenation fills whole registers of four bytes, a field alone only its own bytes."""
    return data if fields == 1 else data.ljust(-(-len(data) // 4) * 4, b"\0")


def _symhash(words: Words) -> Expression:
    modulus = _modulus(words)
    values = _uniform(modulus, _offset(words), "symhash has a seed of the kernel's: each value is equally probable")
    return Expression(("integer",), spread=lambda state: values)


_READERS: Mapping[str, Callable[[Words], Expression]] = MappingProxyType(
    {"ct": _ct, "fib": _fib, "numgen": _numgen, "jhash": _jhash, "symhash": _symhash}
)
