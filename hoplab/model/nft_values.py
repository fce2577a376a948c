"""nft's data types: how a value of each is written, kept as a key, and laid out in bytes.

A value is a number (addresses, ports, protocols, marks, flags) or a text (interface names, address types).  A
concatenation is a tuple.  An element of a set may be a prefix or a range: then it has a lowest and a highest value.

Source: nft(8), "Data types"; nftables src/datatype.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from hoplab.model.nft_words import Words, shown, unquoted
from hoplab.model.rules import Collection, Verdict
from hoplab.model.state import CT_STATES, PROTOCOLS, TCP_FLAGS, address_number, prefix_mask

Value = int | str
_CT_STATUS = {"seen-reply": 2, "confirmed": 8, "snat": 16, "dnat": 32}
"""Without expected, assured, dying: a connection's history decides them, not its first packet."""
_SERVICES = {"ssh": 22, "domain": 53, "http": 80, "https": 443}
_ADDRESS_TYPES = frozenset(("local", "unicast", "broadcast", "multicast", "anycast", "unspec"))
_ICMP = {"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8, "time-exceeded": 11}
_ICMPV6 = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
    "echo-reply": 129, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
}  # fmt: skip
_NAMES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "inet_proto": PROTOCOLS,
        "inet_service": _SERVICES,
        "ct_state": {str(name): bit for name, bit in CT_STATES.items()},
        "ct_status": _CT_STATUS,
        "tcp_flag": TCP_FLAGS,
        "icmp_type": _ICMP,
        "icmpv6_type": _ICMPV6,
        "nf_proto": {"ipv4": 2, "ipv6": 10},
        "ether_type": {"ip": 0x0800, "ip6": 0x86DD},
        "ct_dir": {"original": 0, "reply": 1},
        "boolean": {"missing": 0, "exists": 1},
        "mark": {},
        "integer": {},
    }
)
BITMASKS = frozenset(("ct_state", "ct_status", "tcp_flag"))
"""Types whose values are flags: `ct state new,established` asks for any of them."""
_LENGTHS = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_service": 2, "inet_proto": 1, "icmp_type": 1, "icmpv6_type": 1}
_HOST_ORDER = {"mark": 4, "ct_state": 4, "integer": 4}
KNOWN_TYPES = frozenset(_NAMES) | {"ipv4_addr", "ipv6_addr", "ifname", "fib_addrtype", "iface_index"}


def scalar(word: str, kind: str) -> Value:
    """One value of a type; raises ValueError."""
    if kind in ("ipv4_addr", "ipv6_addr"):
        version, number = address_number(word)
        if version != (4 if kind == "ipv4_addr" else 6):
            raise ValueError(f"{word} is not of type {kind}")
        return number
    if kind in ("ifname", "iface_index"):
        return unquoted(word)
    if kind == "fib_addrtype":
        if word not in _ADDRESS_TYPES:
            raise ValueError(f"address type {shown(word)} is not known here")
        return word
    if kind == "auto":
        return _guessed(word)
    names = _NAMES[kind]
    if word in names:
        return names[word]
    if word[:1].isdigit():
        return int(word, 0)
    raise ValueError(f"{shown(word)} is not a value of type {kind} that is known here")


def _guessed(word: str) -> Value:
    """A value whose type only its shape tells (in anonymous maps)."""
    if "." in word or ":" in word:
        return address_number(word)[1]
    if word[:1].isdigit():
        return int(word, 0)
    raise ValueError(f"value {shown(word)} is not an address or a number")


def part(words: Words, kind: str) -> tuple[Value, Value]:
    """The lowest and highest value of one field of an element: a value, a prefix or a range."""
    word = words.take()
    if kind == "ifname" and unquoted(word).endswith("*"):
        start = unquoted(word)[:-1]
        return start, start + "\U0010ffff"
    if word == "[":
        word = words.take()
        words.expect("]")
    low = scalar(word, kind)
    if isinstance(low, int):
        if words.accept("/"):
            version = 6 if ":" in word else 4
            mask = prefix_mask(version, words.number())
            return low & mask, low & mask | (mask ^ prefix_mask(version, 128 if version == 6 else 32))
        if words.accept("-"):
            high = scalar(words.take(), kind)
            if not isinstance(high, int) or high < low:
                raise ValueError(f"the range from {word} ends before it begins")
            return low, high
    return low, low


def verdict(words: Words) -> Verdict:
    """accept, drop, return, continue, jump CHAIN, goto CHAIN; raises ValueError."""
    word = words.take()
    if word in ("jump", "goto"):
        chain = words.mention("chain")
        return Verdict("jump" if word == "jump" else "goto", f"{word} {chain}", chain)
    if word not in VERDICTS:
        raise ValueError(f"{shown(word)} is not a verdict that is known here")
    return VERDICTS[word]


VERDICTS: Mapping[str, Verdict] = MappingProxyType(
    {
        "accept": Verdict("accept", "accept"),
        "drop": Verdict("drop", "drop"),
        "return": Verdict("return", "return"),
        "continue": Verdict("next", "continue"),
    }
)


def fields(words: Words, types: tuple[str, ...]) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The lowest and highest key of an element, field by field."""
    lows, highs = [], []
    for index, kind in enumerate(types):
        if index:
            words.expect(".")
        low, high = part(words, kind)
        lows.append(low)
        highs.append(high)
    return tuple(lows), tuple(highs)


def key_of(values: tuple[Value, ...]) -> object:
    """How a key is kept: a concatenation as a tuple, a single value as itself."""
    return values[0] if len(values) == 1 else values


def elements(words: Words, collection: Collection, *, delete: bool = False) -> None:
    """Read `{ key [timeout ..] [comment ..] [: value], ... }` into (or out of) a set or map."""
    words.skip_lines()
    words.expect("{")
    while True:
        words.skip_lines()
        if words.accept("}"):
            return
        _element(words, collection, delete)
        words.skip_lines()
        if not words.accept(","):
            words.skip_lines()
            words.expect("}")
            return


def _element(words: Words, collection: Collection, delete: bool) -> None:
    if words.accept("*"):
        lows: tuple[Value, ...] | None = None
        highs: tuple[Value, ...] = ()
    else:
        lows, highs = fields(words, collection.key_types)
    _attributes(words)
    value: object = True
    if collection.value_types and not (delete and words.peek() != ":"):
        words.expect(":")
        value = _map_value(words, collection)
        _attributes(words)
    if lows is None:
        collection.default = None if delete else value
    elif lows == highs:
        if delete:
            collection.exact.pop(key_of(lows), None)
        else:
            collection.exact[key_of(lows)] = value
    elif delete:
        collection.intervals[:] = [each for each in collection.intervals if each[:2] != (lows, highs)]
    else:
        collection.intervals.append((lows, highs, value))


def _map_value(words: Words, collection: Collection) -> object:
    if collection.value_types == ("verdict",):
        return verdict(words)
    if collection.value_types == ("auto",):
        values = [scalar(_bracketless(words), "auto")]
        while words.accept("."):
            values.append(scalar(_bracketless(words), "auto"))
        return key_of(tuple(values))
    lows, highs = fields(words, collection.value_types)
    if lows != highs:
        raise ValueError("a map to ranges is not supported here")
    return key_of(lows)


def _bracketless(words: Words) -> str:
    word = words.take()
    if word == "[":
        word = words.take()
        words.expect("]")
    return word


def _attributes(words: Words) -> None:
    """What else an element carries, and nobody here needs."""
    while True:
        if words.peek() in ("timeout", "expires", "comment"):
            words.take()
            words.take()
        elif words.peek() == "counter":
            counter(words)
        else:
            return


def counter(words: Words) -> None:
    """`counter`, `counter packets N bytes N`, `counter name X`."""
    words.expect("counter")
    if words.accept("name"):
        words.take()
    elif words.accept("packets"):
        words.number()
        words.expect("bytes")
        words.number()


def octets(value: Value, kind: str) -> bytes:
    """The value as it lies in a register, for jhash; raises ValueError for types that can't be hashed here."""
    if kind in _LENGTHS and isinstance(value, int):
        return value.to_bytes(_LENGTHS[kind], "big")
    if kind in _HOST_ORDER and isinstance(value, int):
        return value.to_bytes(_HOST_ORDER[kind], "little")
    if kind == "ifname" and isinstance(value, str):
        return value.encode().ljust(16, b"\0")
    raise ValueError(f"a hash over a field of type {kind} is not supported here")


def type_list(words: Words, typeof: Callable[[Words], tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Key and value types behind `type` or `typeof` (in which `typeof` reads the expressions)."""
    by_name = words.take() == "type"
    keys = _types(words) if by_name else typeof(words)
    values: tuple[str, ...] = ()
    if words.accept(":"):
        read = _types if by_name else typeof
        values = ("verdict",) if words.accept("verdict") else read(words)
    return keys, values


def _types(words: Words) -> tuple[str, ...]:
    found = [words.take()]
    while words.accept("."):
        found.append(words.take())
    for each in found:
        if each not in KNOWN_TYPES:
            raise ValueError(f"type {shown(each)} is not known here")
    return tuple(found)
