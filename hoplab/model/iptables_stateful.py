"""The matches of iptables rules that ask for more than the packet's headers: marks, connections, chance, memory.

`statistic` splits the packet's fate, `recent` leaves something behind for later packets, the others are plain tests.

Source: iptables-extensions(8); kernel net/netfilter/xt_*.c of the same names.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import cache

from hoplab.model.iptables_options import Options, Step, port_range, protocol_tests, value_and_mask
from hoplab.model.routing import has_way_back
from hoplab.model.rules import BREAK, CARRY_ON, Action, Family, Test, Verdict
from hoplab.model.state import CT_STATES, State, Unforeseeable, network


def mark(options: Options, _family: Family) -> Iterable[Step]:
    """-m mark: the packet's mark, masked."""
    value, mask = value_and_mask(options.argument("--mark"))
    negated = options.negated("--mark")
    yield lambda state: (state.mark & mask == value) != negated


def connmark(options: Options, _family: Family) -> Iterable[Step]:
    """-m connmark: the connection's mark, masked."""
    value, mask = value_and_mask(options.argument("--mark"))
    negated = options.negated("--mark")
    yield lambda state: state.tracked and (state.ct_mark & mask == value) != negated


def state(options: Options, _family: Family) -> Iterable[Step]:
    """-m state, the older name of --ctstate."""
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


def conntrack(options: Options, family: Family) -> Iterable[Step]:
    """-m conntrack: what is known of the packet's connection."""
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
            yield from _tracked(protocol_tests(negated, text))
        elif option in ("--ctorigsrc", "--ctorigdst"):
            _, net, mask = network(text)
            yield _original_address(option, net, mask, negated)
        else:
            yield _original_port(option, port_range(text), negated)


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


@cache
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


def statistic(options: Options, _family: Family) -> Iterable[Step]:
    """-m statistic: chance, or counting."""
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


def limit(_options: Options, _family: Family) -> Iterable[Step]:
    """-m limit: a rate, taken as not exhausted."""
    yield ("action", split(Fraction(1), "a rate limit was met: taken as not exhausted"))


def recent(options: Options, family: Family) -> Iterable[Step]:
    """-m recent: source addresses seen before, remembered in lists by name."""
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


def rpfilter(options: Options, _family: Family) -> Iterable[Step]:
    """-m rpfilter: whether an answer would go out where the packet came in."""
    options.refuse("--validmark", "--accept-local")
    loose, inverted = "--loose" in options, "--invert" in options

    def holds(state: State) -> bool:
        passes = state.in_interface == "lo" or has_way_back(state, "" if loose else state.in_interface)
        return passes != inverted

    yield holds
