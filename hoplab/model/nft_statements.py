"""nft's rules: matches (see `nft_matches`), and statements that change or decide something.

Source: nft(8), "Expressions", "Statements"; nftables src/parser_bison.y; kernel net/netfilter/nft_nat.c, nft_masq.c,
nft_dynset.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from types import MappingProxyType

from hoplab.model import nat
from hoplab.model.nft_expressions import Chance, Expression, expression
from hoplab.model.nft_matches import Branches, Step, match
from hoplab.model.nft_values import VERDICTS, counter, scalar, verdict
from hoplab.model.nft_words import Words, shown, unquoted
from hoplab.model.rules import BREAK, CARRY_ON, Action, Rule, Verdict, decided, rule_of
from hoplab.model.state import CT_STATES, State


def parse_rule(words: Words, line: int) -> Rule:
    """Read one rule up to the end of its line; raises ValueError for what is not known here."""
    if words.at_end():
        raise ValueError(f"expected a rule, found {shown(words.peek())}")
    first, comment = words.at, ""
    steps: list[Step] = []
    while not words.at_end():
        if words.accept("comment"):
            comment = unquoted(words.take())
        else:
            steps += _statement(words)
    return rule_of(steps, words.text(first), line, comment)


def _statement(words: Words) -> Iterable[Step]:
    word = words.peek()
    if word in VERDICTS or word in ("jump", "goto"):
        return (("action", decided(verdict(words))),)
    if word in _STATEMENTS:
        words.take()
        return _STATEMENTS[word](words)
    if word in ("add", "update") and words.peek(1) == "@":
        words.take()
        return (("action", _set_update(words)),)
    settable = _settable(words)
    if settable:
        return (("action", _assignment(words, settable)),)
    return (match(words),)


# --- statements that change something ------------------------------------------------------------------------------


def _settable(words: Words) -> str:
    """Which field an assignment that begins here sets: mark, ct mark, or one that doesn't matter; "" for none."""
    if words.peek() not in _ASSIGNMENT_STARTS:
        return ""
    for opening, field in _ASSIGNED.items():
        if words.accept(*opening):
            return field
    return ""


_ASSIGNED: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("meta", "mark", "set"): "mark",
        ("mark", "set"): "mark",
        ("ct", "mark", "set"): "ct_mark",
        ("meta", "nftrace", "set"): "nftrace",
        ("tcp", "option", "maxseg", "size", "set"): "segment size",
        ("meta", "priority", "set"): "priority",
    }
)
_ASSIGNMENT_STARTS = frozenset(opening[0] for opening in _ASSIGNED)


def _assignment(words: Words, field: str) -> Action:
    if field in ("nftrace", "segment size", "priority"):
        while not words.at_end() and words.peek() not in _STATEMENTS and words.peek() not in VERDICTS:
            words.take()
        return lambda state: ((state, CARRY_ON),)
    value = _operand(words, "mark")

    def step(state: State) -> Branches:
        for chance, found, assumption in value.chances(state):
            if found is None:
                yield state.share(chance, assumption), BREAK
            else:
                yield state.share(chance, assumption).but(**{field: found}), CARRY_ON

    return step


def _operand(words: Words, kind: str) -> Expression:
    """A literal of a type, or an expression."""
    word = words.peek()
    if word[:1].isdigit() or word[:1] == '"':
        literal = scalar(words.take(), kind)
        if words.peek() not in ("and", "or", "xor", "&", "|", "^"):
            return Expression((kind,), lambda state: literal)
        raise ValueError("write the expression before the number in arithmetic")
    return expression(words)


def _set_update(words: Words) -> Action:
    words.expect("@")
    name = words.mention("set")
    words.expect("{")
    key = expression(words)
    while words.peek() in ("timeout", "expires", "counter", "comment"):
        if words.peek() == "counter":
            counter(words)
        else:
            words.take()
            words.take()
    value = None
    if words.accept(":"):
        value = _operand(words, "mark")
    words.expect("}")
    get_key = key.get
    get_value: Callable[[State], object] | None = (lambda state: True) if value is None else value.get
    if get_key is None or get_value is None:
        raise ValueError("a set filled with values that chance decides is not supported here")
    known_key, known_value = get_key, get_value

    def step(state: State) -> Branches:
        assert state.table is not None
        element = known_key(state)
        kept = known_value(state)
        if element is None or kept is None:
            yield state, BREAK
            return
        entry = (*state.table.key, name, element, kept)
        yield state.but(remembers=(*state.remembers, entry)), CARRY_ON

    return step


# --- nat -------------------------------------------------------------------------------------------------------------


def _translation(words: Words, *, destination: bool) -> Iterable[Step]:
    """`dnat [ip|ip6] to TARGET[:PORT]`, `snat ...`; TARGET is an address or an expression that gives one."""
    if words.peek() in ("ip", "ip6") and words.peek(1) not in ("saddr", "daddr"):
        words.take()
        if words.accept("addr", ".", "port") and words.peek() != "to":
            raise ValueError(f"expected 'to', found {shown(words.peek())}")
    words.expect("to")
    target = None if words.peek() == ":" else _address_operand(words)
    port = _operand(words, "inet_service") if words.accept(":") else None
    random = _nat_flags(words)

    def step(state: State) -> Branches:
        for chance, where, assumption in _targets(state, target, port):
            share = state.share(chance, assumption) if chance != 1 or assumption else state
            if where is None:
                yield share, BREAK
            elif destination:
                yield from nat.dnat(share, *where, "dnat to")
            else:
                yield from nat.snat(share, *where, random=random)

    return (("action", step),)


def _address_operand(words: Words) -> Expression:
    word = words.peek()
    if word == "[":
        words.take()
        address = scalar(words.take(), "auto")
        words.expect("]")
    elif word[:1].isdigit() or ":" in word:
        address = scalar(words.take(), "auto")
    else:
        return expression(words)
    if words.peek() in ("-", "/"):
        raise ValueError("nat to a range of addresses can't be foretold")
    if words.accept("."):
        port = words.number()
        return Expression(("auto", "inet_service"), lambda state: (address, port))
    return Expression(("auto",), lambda state: address)


def _targets(
    state: State, target: Expression | None, port: Expression | None
) -> Iterable[tuple[Fraction, tuple[int, int | None] | None, str]]:
    current = state.dst
    addresses: Iterable[Chance] = target.chances(state) if target else ((Fraction(1), current, ""),)
    for chance, found, assumption in addresses:
        for part_chance, number, more in port.chances(state) if port else ((Fraction(1), None, ""),):
            where: tuple[int, int | None] | None = None
            if isinstance(found, tuple):
                where = (found[0], found[1])
            elif isinstance(found, int) and (port is None or isinstance(number, int)):
                where = (found, number if isinstance(number, int) else None)
            yield chance * part_chance, where, assumption or more


def _nat_flags(words: Words) -> bool:
    random = False
    while True:
        if words.accept("random") or words.accept("fully-random"):
            random = True
        elif words.accept("persistent"):
            pass
        elif words.accept(","):
            continue
        else:
            return random


def _dnat(words: Words) -> Iterable[Step]:
    return _translation(words, destination=True)


def _snat(words: Words) -> Iterable[Step]:
    return _translation(words, destination=False)


def _port_only(words: Words) -> int | None:
    if not words.accept("to"):
        return None
    words.expect(":")
    port = words.number()
    if words.peek() == "-":
        raise ValueError("a range of ports can't be foretold")
    return port


def _masquerade(words: Words) -> Iterable[Step]:
    port = _port_only(words)
    random = _nat_flags(words)
    return (("action", lambda state: nat.masquerade(state, port, random=random)),)


def _redirect(words: Words) -> Iterable[Step]:
    port = _port_only(words)
    _nat_flags(words)
    return (("action", lambda state: nat.redirect(state, port)),)


# --- other statements ------------------------------------------------------------------------------------------------


def _reject(words: Words) -> Iterable[Step]:
    first = words.at
    if words.accept("with") and not words.accept("tcp", "reset"):
        family = words.take()
        if family not in ("icmp", "icmpv6", "icmpx"):
            raise ValueError(f"reject with {shown(family)} is not known here")
        words.accept("type")
        words.take()
    kind = words.text(first).removeprefix("with ") or "icmp port-unreachable"

    def step(state: State) -> Branches:
        yield state.but(reject_with=kind), Verdict("reject", f"reject with {kind}")

    return (("action", step),)


def _counter(words: Words) -> Iterable[Step]:
    words.at -= 1
    counter(words)
    return ()


def _log(words: Words) -> Iterable[Step]:
    while words.peek() in ("prefix", "level", "group", "snaplen", "queue-threshold", "flags"):
        words.take()
        words.take()
    return ()


def _limit(words: Words) -> Iterable[Step]:
    words.expect("rate")
    over = words.accept("over")
    while words.peek() in ("/", "burst", "packets", "bytes", "kbytes", "mbytes") or words.peek()[:1].isdigit():
        slash = words.take() == "/"
        if slash:
            words.take()
    verdict_now = BREAK if over else CARRY_ON

    def step(state: State) -> Branches:
        yield state.share(Fraction(1), "a rate limit was met: taken as not exhausted"), verdict_now

    return (("action", step),)


def _notrack(_words: Words) -> Iterable[Step]:
    def step(state: State) -> Branches:
        yield state.but(ct_state=CT_STATES["untracked"], tracked=False), CARRY_ON

    return (("action", step),)


_STATEMENTS: Mapping[str, Callable[[Words], Iterable[Step]]] = MappingProxyType(
    {
        "dnat": _dnat,
        "snat": _snat,
        "masquerade": _masquerade,
        "redirect": _redirect,
        "reject": _reject,
        "counter": _counter,
        "log": _log,
        "limit": _limit,
        "notrack": _notrack,
    }
)
