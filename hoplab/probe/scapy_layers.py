"""The one file that imports scapy, and only the layers that probes are made of, and DNS messages are read by.

Importing it costs about a quarter of a second, so it happens in a process of its
own while the lab is being built (`hoplab.probe.crafter`).  scapy would read this
machine's routes and interfaces at import, and would keep caches in the user's home:
a lab wants neither, since its packets name every address themselves.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hoplab.probe.shapes import WINDOW, Shape

NOWHERE = "/dev/null"
"""Not a directory, so nothing can be kept below it."""

DOCUMENTATION = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
"""Addresses that nothing has (RFC 5737, RFC 3849), for a packet that is filled in later."""


class Layers:
    """scapy's layer classes, and packets put together from them."""

    def __init__(self) -> None:
        with _nothing_kept():
            _alone()
            from scapy.layers.inet import ICMP, IP, TCP, UDP
            from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

        self._ip, self._ipv6, self._tcp, self._udp = IP, IPv6, TCP, UDP
        self._icmp, self._icmpv6 = ICMP, ICMPv6EchoRequest

    def craft(
        self,
        shape: Shape,
        addresses: tuple[str, str] | None = None,
        identification: int = 0,
        payload: bytes = b"",
        **fields: Any,
    ) -> bytes:
        """A packet of this shape; `fields` are those of its transport header, by scapy's own names."""
        source, destination = addresses or DOCUMENTATION[shape.version]
        if shape.version == 6:
            network = self._ipv6(src=source, dst=destination, hlim=shape.ttl, tc=shape.tos)
        else:
            flags = "DF" if shape.dont_fragment else 0
            network = self._ip(
                src=source, dst=destination, ttl=shape.ttl, tos=shape.tos, id=identification, flags=flags
            )
        packet = network / self._transport(shape, fields)
        return bytes(packet / payload if payload else packet)

    def _transport(self, shape: Shape, fields: dict[str, Any]) -> Any:
        if shape.protocol == "tcp":
            options = [("MSS", shape.mss)] if shape.mss else []
            return self._tcp(**{"sport": 0, "dport": 0, "window": WINDOW, "flags": 0, "options": options, **fields})
        if shape.protocol == "udp":
            return self._udp(**{"sport": 0, "dport": 0, **fields})
        return self._icmpv6(**fields) if shape.version == 6 else self._icmp(**{"type": "echo-request", **fields})


def _alone() -> None:
    """Have scapy leave this machine's routes alone."""
    from scapy.config import conf

    conf.route_autoload = False
    conf.route6_autoload = False


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """Have scapy find no directory for configuration and caches while it is imported."""
    variables = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(dict.fromkeys(variables, NOWHERE))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@functools.cache
def layers() -> Layers:
    """scapy, imported when first asked for."""
    return Layers()


@functools.cache
def dns_layers() -> tuple[Any, Any]:
    """scapy's DNS message and its question."""
    with _nothing_kept():
        _alone()
        from scapy.layers.dns import DNS, DNSQR
    return DNS, DNSQR
