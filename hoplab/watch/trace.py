"""Rule-trace events: what `meta nftrace set 1` has the kernel tell of a packet's way through the rules.

Pure.  Every rule that matched, every return from a chain and every base chain's
policy gives one message, for nft's own tables and for those that iptables-nft
fills.  The first message of each base chain carries the packet's headers; all of
one passage share a trace id.  Source: Linux' net/netfilter/nf_tables_trace.c and
include/uapi/linux/netfilter/nf_tables.h (enum nft_trace_attributes).
"""

from __future__ import annotations

from collections.abc import Callable

from hoplab.hops.evidence import TraceEvent
from hoplab.watch.netlink_messages import Message, attributes

NFNLGRP_NFTRACE = 9
NFT_MSG_TRACE = (10 << 8) | 17

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IIF, _OIF, _MARK, _POLICY = 8, 9, 10, 12, 14, 16
_KINDS = {1: "policy", 2: "return", 3: "rule"}
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -5: "return"}
_JUMPS = {-3: "jump", -4: "goto"}


def parse_trace(message: Message, node: str, time_ns: int, interface: Callable[[int], str]) -> TraceEvent | None:
    """The event of one NFT_MSG_TRACE message; None for anything else.  `interface` names an ifindex."""
    if message.kind != NFT_MSG_TRACE:
        return None
    found = attributes(message.payload)
    kind = _KINDS.get(_number(found.get(_TYPE)))
    if kind is None:
        return None
    incoming, outgoing = _number(found.get(_IIF)), _number(found.get(_OIF))
    verdict = _verdict(found.get(_VERDICT, b""))
    if kind == "policy":
        verdict = _VERDICTS.get(_signed(found.get(_POLICY)), verdict)
    return TraceEvent(
        time_ns=time_ns,
        node=node,
        trace_id=_number(found.get(_ID)),
        kind=kind,  # type: ignore[arg-type]
        family=_FAMILIES.get(message.family, "inet"),  # type: ignore[arg-type]
        table=_text(found.get(_TABLE)),
        chain=_text(found.get(_CHAIN)),
        handle=_number(found.get(_HANDLE)),
        verdict=verdict,
        in_interface=interface(incoming) if incoming else "",
        out_interface=interface(outgoing) if outgoing else "",
        mark=_number(found.get(_MARK)),
        network_header=found.get(_NETWORK, b""),
        transport_header=found.get(_TRANSPORT, b""),
    )


def _verdict(data: bytes) -> str:
    if not data:
        return ""
    found = attributes(data)
    code = _signed(found.get(1))
    if code in _JUMPS:
        return f"{_JUMPS[code]} {_text(found.get(2))}"
    # A queue verdict carries the queue's number in its upper half.
    return _VERDICTS.get(code, _VERDICTS.get(code & 0xFFFF if code > 0 else code, str(code)))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _signed(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big", signed=True)


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")
