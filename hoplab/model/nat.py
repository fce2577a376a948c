"""What the nat statements do to a packet and its connection: DNAT, redirect, SNAT, masquerade.

The first nat rule decides for the whole connection: it is accepted and no further nat chain of that hook is asked.  A
port stays as it is when a rule gives none and the tuple is free; the evaluator takes it as free.

Source: kernel net/netfilter/nf_nat_core.c (nf_nat_setup_info), nf_nat_masquerade.c, nf_nat_redirect.c.
"""

from __future__ import annotations

from collections.abc import Iterable

from hoplab.model.packet import Host
from hoplab.model.routing import preferred_source
from hoplab.model.rules import Verdict
from hoplab.model.state import WITH_PORTS, State, address_number, socket_text

Branches = Iterable[tuple[State, Verdict]]


def dnat(state: State, address: int, port: int | None, words: str = "DNAT to") -> Branches:
    """Rewrite the destination; `port` None keeps it."""
    dport = state.dport if port is None else port
    after = state.but(
        dst=address,
        dport=dport,
        destination_bound=True,
        redirected=True,
        dnat=(address, dport) != (state.dst, state.dport),
    )
    return ((after, _accept(state, words, address, port)),)


def redirect(state: State, port: int | None) -> Branches:
    """DNAT to the host itself: 127.0.0.1 for its own packets, else the first address of the interface it came by."""
    if not state.in_interface:
        address: int | None = (127 << 24) + 1 if state.version == 4 else 1
    else:
        address = _first_address(state.host, state.in_interface, state.version)
    if address is None:
        return ((state, Verdict("drop", f"drop (redirect: {state.in_interface} has no address)")),)
    return dnat(state, address, port, "REDIRECT to")


def snat(state: State, address: int, port: int | None, *, random: bool = False) -> Branches:
    """Rewrite the source; `random` means that the kernel picks the port."""
    after = _source(state, address, port, random)
    return ((after, _accept(state, "SNAT to", address, port)),)


def masquerade(state: State, port: int | None, *, random: bool = False) -> Branches:
    """Rewrite the source to the outgoing interface's address."""
    address = preferred_source(state.host, state.version, state.out_interface, state.next_hop)
    if address is None:
        return ((state, Verdict("drop", f"drop (masquerade: {state.out_interface} has no address)")),)
    after = _source(state, address, port, random).but(masqueraded=True)
    return ((after, _accept(state, "MASQUERADE to", address, port)),)


def parse_socket(text: str, version: int) -> tuple[int | None, int | None]:
    """(address, port) of `address`, `address:port`, `[address]:port` or `:port`; raises ValueError."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif version == 6 and text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    number: int | None = None
    if address:
        found, number = address_number(address)
        if found != version:
            raise ValueError(f"{address} is not an IPv{version} address")
    if not port:
        return number, None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is not one port")
    return number, int(port)


def _source(state: State, address: int, port: int | None, random: bool) -> State:
    sport = None if random else state.sport if port is None else port
    changed = (address, sport) != (state.src, state.sport)
    return state.but(src=address, sport=sport, source_bound=True, snat=changed)


def _accept(state: State, words: str, address: int, port: int | None) -> Verdict:
    shown = port if state.protocol in WITH_PORTS else None
    return Verdict("accept", f"{words} {socket_text(state.version, address, shown)}")


def _first_address(host: Host, interface: str, version: int) -> int | None:
    chosen = host.by_name.get(interface)
    for text in chosen.addresses if chosen else ():
        found, number = address_number(text.partition("/")[0])
        if found == version:
            return number
    return None
