"""Where a flow goes, as a check file writes it: a place, a port and a protocol in one text.

A place is a name of the lab (`node1`, `pod/d`, `svc/a`) or an address; an IPv6 address with a port stands in
brackets, as in a URL (RFC 3986 3.2.2).
"""

from __future__ import annotations

from typing import get_args

from hoplab.checks.spec import Protocol, Target

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


def target(text: str) -> Target:
    """`node1:32261/tcp`, `10.0.0.5:80`, `[fd00::1]:53/udp`, `svc/a:80`, `pod/d/icmp`.  Raises ValueError."""
    place, slash, last = text.rpartition("/")
    named = next((each for each in PROTOCOLS if slash and each == last), None)
    protocol, rest = (named, place) if named else (PROTOCOLS[0], text)
    if last in ("sctp", "SCTP"):
        raise ValueError(f"{text!r}: probes speak {', '.join(PROTOCOLS)}; SCTP rules can be read with `lab.py rules`")
    if last.lower() in PROTOCOLS and last not in PROTOCOLS:
        raise ValueError(f"{text!r}: write the protocol in small letters: {last.lower()}")
    if protocol == "icmp":
        if not rest:
            raise ValueError(f"expected a name or an address before /icmp, found {text!r}")
        return Target(rest.strip("[]"), 0, "icmp")
    if rest.startswith("svc/"):
        service, _, port_name = rest.partition(":")
        if "/" in port_name:
            wrong = port_name.rpartition("/")[2]
            raise ValueError(f"{text!r}: expected a protocol ({', '.join(PROTOCOLS)}), found {wrong!r}")
        if not port_name.isdigit() and (port_name or ":" not in rest):
            return Target(service, 0, protocol, port_name)
    try:
        name, port = split_port(rest)
    except ValueError:
        raise ValueError(f"expected NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL, found {text!r}") from None
    return Target(name, port, protocol)


def split_port(text: str) -> tuple[str, int]:
    """`NAME:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`, without the brackets.  Raises ValueError."""
    name, colon, port = text.rpartition(":")
    bracketed = name.startswith("[") and name.endswith("]")
    if not colon or not name or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(text)
    if ":" in name and not bracketed:
        raise ValueError(text)
    return (name[1:-1] if bracketed else name), int(port)
