"""nft's matches: an expression compared with a value, a range, flags or a set, or looked up in a verdict map.

Source: nft(8), "Expressions", "Data types", "Verdict maps"; nftables src/evaluate.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from hoplab.model.nft_expressions import Expression, expression, lookup
from hoplab.model.nft_values import BITMASKS, fields, key_of, part, scalar
from hoplab.model.nft_words import Words
from hoplab.model.rules import BREAK, CARRY_ON, Action, Test, Verdict
from hoplab.model.state import CT_STATES, State

Step = Test | tuple[Literal["action"], Action]
Branches = Iterable[tuple[State, Verdict]]
Compare = Callable[[State, object], bool]


def match(words: Words) -> Step:
    """Read an expression and what it is compared with, or the verdict map that it is looked up in."""
    subject = expression(words)
    if words.accept("vmap"):
        return ("action", _dispatch(words, subject))
    operator = words.take() if words.peek() in _OPERATORS else ""
    compare = _comparison(words, subject, operator)
    get = subject.get
    if get is not None:
        known = get

        def holds(state: State) -> bool:
            value = known(state)
            return value is not None and compare(state, value)

        return holds

    def drawn(state: State) -> Branches:
        for chance, value, assumption in subject.chances(state):
            yield (
                state.share(chance, assumption),
                CARRY_ON if value is not None and compare(state, value) else BREAK,
            )

    return ("action", drawn)


_OPERATORS = frozenset(("==", "!=", "<", ">", "<=", ">=", "!"))


def _comparison(words: Words, subject: Expression, operator: str) -> Compare:
    """What stands right of an expression: a set, a range, flags or one value."""
    if words.peek() in ("@", "{"):
        if operator not in ("", "==", "!="):
            raise ValueError(f"a set can't be compared with {operator!r}")
        find, _ = lookup(words, subject.types, ())
        unlike = operator == "!="
        return lambda state, value: (find(state, value) is not None) != unlike
    if len(subject.types) > 1:
        return _between(*fields(words, subject.types), operator)
    kind = subject.types[0]
    if kind in BITMASKS:
        return _flag_comparison(words, subject, operator)
    low, high = part(words, "auto" if kind == "auto" else kind)
    if operator in ("<", ">", "<=", ">="):
        return _ordered(operator, low)
    return _between((low,), (high,), operator)


def _between(low: tuple[object, ...], high: tuple[object, ...], operator: str) -> Compare:
    unlike = operator == "!="
    if operator not in ("", "==", "!="):
        raise ValueError(f"operator {operator!r} is not known here")
    if low == high:
        wanted = key_of(low)  # type: ignore[arg-type]
        return lambda state, value: (value == wanted) != unlike

    def within(state: State, value: object) -> bool:
        values = value if isinstance(value, tuple) else (value,)
        return all(a <= each <= b for a, each, b in zip(low, values, high, strict=True)) != unlike

    return within


def _ordered(operator: str, bound: object) -> Compare:
    if not isinstance(bound, int):
        raise ValueError(f"{bound!r} has no order")
    limit = bound
    tests: Mapping[str, Callable[[int], bool]] = {
        "<": lambda value: value < limit,
        ">": lambda value: value > limit,
        "<=": lambda value: value <= limit,
        ">=": lambda value: value >= limit,
    }
    test = tests[operator]
    return lambda state, value: isinstance(value, int) and test(value)


def _flag_comparison(words: Words, subject: Expression, operator: str) -> Compare:
    """Flags alone ask for any of them, `!` for none, `==` and `!=` compare all that is left of the value.

    Of a connection's status only some flags can be known beforehand, so it must be masked to be compared.
    """
    kind = subject.types[0]
    if kind == "ct_status" and operator in ("==", "!=") and not subject.masked:
        raise ValueError("the whole status of a connection can't be foretold; mask the flags that matter")
    wanted = _flag(words, kind)
    while words.accept(",") or words.accept("|"):
        wanted |= _flag(words, kind)
    if words.accept("/"):
        mask = _flag(words, kind)
        while words.accept(","):
            mask |= _flag(words, kind)
        unlike = operator in ("!=", "!")
        return lambda state, value: (isinstance(value, int) and value & mask == wanted) != unlike
    if operator == "":
        return lambda state, value: isinstance(value, int) and bool(value & wanted)
    if operator == "!":
        return lambda state, value: isinstance(value, int) and not value & wanted
    if operator == "==":
        return lambda state, value: value == wanted
    if operator == "!=" and (subject.masked or kind == "tcp_flag" or wanted in CT_STATES.values()):
        return lambda state, value: value != wanted
    raise ValueError(f"flags compared with {operator!r} are not supported here")


def _flag(words: Words, kind: str) -> int:
    value = scalar(words.take(), kind)
    assert isinstance(value, int)
    return value


def _dispatch(words: Words, subject: Expression) -> Action:
    find, _ = lookup(words, subject.types, ("verdict",))

    def step(state: State) -> Branches:
        for chance, value, assumption in subject.chances(state):
            found = None if value is None else find(state, value)
            after = state if chance == 1 and not assumption else state.share(chance, assumption)
            yield after, found if isinstance(found, Verdict) else BREAK

    return step
