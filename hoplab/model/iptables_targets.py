"""The targets of iptables rules as the last step of a rule: verdicts, nat, marks, and what only watches.

Source: iptables-extensions(8); kernel net/netfilter/xt_MARK.c, xt_nat.c, xt_MASQUERADE.c, xt_CT.c and others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hoplab.model import nat
from hoplab.model.iptables_options import Options, value_and_mask
from hoplab.model.rules import Action, Family, Verdict
from hoplab.model.state import CT_STATES, State

VERDICTS: Mapping[str, Verdict] = MappingProxyType(
    {"ACCEPT": Verdict("accept", "ACCEPT"), "DROP": Verdict("drop", "DROP"), "RETURN": Verdict("return", "RETURN")}
)
"""Targets that are a verdict and take no options."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target: its options' argument counts, and what makes a step of them."""

    options: Mapping[str, int]
    build: Callable[[Options, Family], Action]


def _reject(options: Options, family: Family) -> Action:
    kind = options.argument("--reject-with", "icmp-port-unreachable" if family == "ip" else "icmp6-port-unreachable")

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        yield state.but(reject_with=kind), Verdict("reject", f"REJECT with {kind}")

    return step


def _version(family: Family) -> int:
    return 4 if family == "ip" else 6


def _dnat(options: Options, family: Family) -> Action:
    address, port = nat.parse_socket(options.argument("--to-destination"), _version(family))

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return nat.dnat(state, state.dst if address is None else address, port)

    return step


def _snat(options: Options, family: Family) -> Action:
    address, port = nat.parse_socket(options.argument("--to-source"), _version(family))
    random = "--random" in options or "--random-fully" in options

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return nat.snat(state, state.src if address is None else address, port, random=random)

    return step


def _masquerade(options: Options, _family: Family) -> Action:
    ports = options.argument("--to-ports", "")
    random = "--random" in options or "--random-fully" in options or "-" in ports
    port = int(ports) if ports.isdigit() else None

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return nat.masquerade(state, port, random=random)

    return step


def _redirect(options: Options, _family: Family) -> Action:
    ports = options.argument("--to-ports", "")
    if ports and not ports.isdigit():
        raise ValueError(f"REDIRECT to {ports!r}: only one port can be foretold")

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return nat.redirect(state, int(ports) if ports else None)

    return step


def _mark_change(options: Options) -> tuple[Callable[[int], int], str]:
    """What happens to the mark, and how iptables-save shows it."""
    if len(options.given) != 1:
        raise ValueError("expected exactly one option that sets the mark")
    ((option, (_, arguments)),) = options.given.items()
    value, mask = value_and_mask(arguments[0])
    if option == "--set-mark":
        mask |= value
    elif option == "--or-mark":
        mask = value
    elif option == "--and-mark":
        value, mask = 0, ~value & 0xFFFFFFFF
    elif option == "--xor-mark":
        mask = 0
    return (lambda mark: (mark & ~mask & 0xFFFFFFFF) ^ value), f"xset {value:#x}/{mask:#x}"


def _mark(options: Options, _family: Family) -> Action:
    change, shown = _mark_change(options)

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        yield state.but(mark=change(state.mark)), Verdict("next", f"MARK {shown}")

    return step


def _connmark(options: Options, _family: Family) -> Action:
    if "--save-mark" in options or "--restore-mark" in options:
        return _connmark_copy(options)
    change, shown = _mark_change(options)

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        yield state.but(ct_mark=change(state.ct_mark)), Verdict("next", f"CONNMARK {shown}")

    return step


def _connmark_copy(options: Options) -> Action:
    both = options.argument("--mask", "0xffffffff")
    nfmask = int(options.argument("--nfmask", both), 0)
    ctmask = int(options.argument("--ctmask", both), 0)
    save = "--save-mark" in options

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        if save:
            kept = (state.ct_mark & ~ctmask & 0xFFFFFFFF) ^ (state.mark & nfmask)
            yield state.but(ct_mark=kept), Verdict("next", "CONNMARK save")
        else:
            kept = (state.mark & ~nfmask & 0xFFFFFFFF) ^ (state.ct_mark & ctmask)
            yield state.but(mark=kept), Verdict("next", "CONNMARK restore")

    return step


def notrack(state: State) -> Iterable[tuple[State, Verdict]]:
    """Have conntrack leave the packet alone."""
    yield state.but(ct_state=CT_STATES["untracked"], tracked=False), Verdict("next", "notrack")


def _ct(options: Options, _family: Family) -> Action:
    if list(options.given) != ["--notrack"]:
        raise ValueError("of target CT only --notrack is supported here")
    return notrack


def _notrack(_options: Options, _family: Family) -> Action:
    return notrack


def _watched(name: str) -> Callable[[Options, Family], Action]:
    def build(_options: Options, _family: Family) -> Action:
        def step(state: State) -> Iterable[tuple[State, Verdict]]:
            yield state, Verdict("next", name)

        return step

    return build


_MARKS = {"--set-xmark": 1, "--set-mark": 1, "--and-mark": 1, "--or-mark": 1, "--xor-mark": 1}
_NAT = {"--random": 0, "--random-fully": 0, "--persistent": 0}

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "REJECT": Target({"--reject-with": 1}, _reject),
        "DNAT": Target({"--to-destination": 1, **_NAT}, _dnat),
        "SNAT": Target({"--to-source": 1, **_NAT}, _snat),
        "MASQUERADE": Target({"--to-ports": 1, **_NAT}, _masquerade),
        "REDIRECT": Target({"--to-ports": 1, "--random": 0}, _redirect),
        "MARK": Target(_MARKS, _mark),
        "CONNMARK": Target(
            {**_MARKS, "--save-mark": 0, "--restore-mark": 0, "--nfmask": 1, "--ctmask": 1, "--mask": 1}, _connmark
        ),
        "CT": Target({"--notrack": 0, "--zone": 1, "--helper": 1, "--timeout": 1, "--ctevents": 1}, _ct),
        "NOTRACK": Target({}, _notrack),
        "TRACE": Target({}, _watched("TRACE")),
        "LOG": Target(
            {
                "--log-level": 1, "--log-prefix": 1, "--log-tcp-sequence": 0, "--log-tcp-options": 0,
                "--log-ip-options": 0, "--log-uid": 0, "--log-macdecode": 0,
            },
            _watched("LOG"),
        ),
        "NFLOG": Target(
            {
                "--nflog-group": 1, "--nflog-range": 1, "--nflog-size": 1, "--nflog-threshold": 1, "--nflog-prefix": 1,
            },
            _watched("NFLOG"),
        ),
        "TCPMSS": Target({"--set-mss": 1, "--clamp-mss-to-pmtu": 0}, _watched("TCPMSS")),
        "CHECKSUM": Target({"--checksum-fill": 0}, _watched("CHECKSUM")),
    }
)  # fmt: skip
"""Every target that is known, by its name after `-j`, but for the plain verdicts."""
