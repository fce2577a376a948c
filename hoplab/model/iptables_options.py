"""What a module of an iptables rule is: its options with their arguments, and the words that several modules read.

Source: iptables-extensions(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hoplab.model.rules import Action, Family, Test
from hoplab.model.state import PROTOCOLS

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


def port_range(text: str) -> tuple[int, int]:
    """(lowest, highest) of `PORT` or `FROM:TO`, either end open; raises ValueError."""
    low, colon, high = text.partition(":")
    first = int(low) if low else 0
    last = (int(high) if high else 65535) if colon else first
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"{text!r} is not a port or a range of ports")
    return first, last


def value_and_mask(text: str) -> tuple[int, int]:
    """VALUE[/MASK] of mark options; raises ValueError."""
    value, slash, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF


def protocol_tests(negated: bool, text: str) -> list[Test]:
    """The tests of -p: none for all protocols."""
    number = protocol_number(text)
    if number == 0 and not negated:
        return []
    if negated:
        return [lambda state: state.protocol != number]
    return [lambda state: state.protocol == number]
