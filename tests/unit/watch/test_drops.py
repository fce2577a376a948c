"""Samples of skb:kfree_skb as the kernel writes them into the ring of a performance event."""

import struct

import pytest

from hoplab.reasons.facts import DropFact
from hoplab.watch.drops import parsed, understood

FORMAT = """name: kfree_skb
ID: 2310
format:
\tfield:unsigned short protocol;\toffset:32;\tsize:2;\tsigned:0;
\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;

print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 12, "NETFILTER_DROP" })
"""


def sample(time_ns, reason, kind=9):
    raw = bytes(36) + struct.pack("=I", reason) + bytes(4)
    body = struct.pack("=QI", time_ns, len(raw)) + raw
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def test_the_format_names_the_reasons_and_their_place():
    assert understood(FORMAT) == ({2: "NOT_SPECIFIED", 12: "NETFILTER_DROP"}, 36)


def test_an_older_kernel_tells_none():
    with pytest.raises(OSError, match=r"5\.17"):
        understood(FORMAT.replace("enum skb_drop_reason reason", "void * location"))


def test_samples_in_order_and_nothing_else():
    names, at = understood(FORMAT)
    lost = struct.pack("=IHHQQ", 2, 0, 24, 1, 5)
    data = sample(100, 12) + lost + sample(200, 77) + sample(300, 2)[:30]
    assert parsed(data, names, at) == [DropFact(100, "NETFILTER_DROP"), DropFact(200, "reason 77")]
    assert parsed(b"", names, at) == []
