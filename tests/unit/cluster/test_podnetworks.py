"""What a node tells host-local: where it begins to look for addresses that nobody will ask for by name."""

from __future__ import annotations

import ipaddress

import pytest

from hoplab.cluster.podnetworks import given_last


@pytest.mark.parametrize(
    ("cidrs", "reserved", "expected"),
    [
        (["10.1.1.0/24"], [], {}),
        (["10.1.1.0/24"], ["10.1.2.4", "fd00::4"], {}),
        (["10.1.1.0/24"], ["10.1.1.1"], {"0": "10.1.1.1"}),
        (["10.1.1.0/24"], ["10.1.1.2", "10.1.1.9"], {"0": "10.1.1.9"}),
        (["10.1.1.0/24"], ["10.1.1.2", "10.1.1.250"], {"0": "10.1.1.2"}),
        (["10.1.1.0/24"], ["10.1.1.200"], {"0": "10.1.1.1"}),
        (["10.1.1.0/24", "fd00:1::/64"], ["fd00:1::2"], {"1": "fd00:1::2"}),
    ],
)
def test_it_begins_at_the_longest_gap(cidrs, reserved, expected):
    assert given_last(cidrs, reserved) == expected


def test_behind_it_comes_none_that_is_reserved():
    reserved = {f"10.1.1.{number}" for number in range(2, 100, 7)}
    start = ipaddress.ip_address(given_last(["10.1.1.0/24"], reserved)["0"])
    assert not {str(start + number) for number in range(1, 100)} & reserved
