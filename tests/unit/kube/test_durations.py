"""Durations as Go reads them."""

import pytest

from hoplab.kube.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("30s", 30), ("1h30m", 5400), ("24h0m0s", 86400), ("250ms", 0.25), ("1.5m", 90), (".5s", 0.5)],
)
def test_a_duration(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 s", "1d", "1s2", "1S"])
def test_none(text):
    with pytest.raises(ValueError, match="expected a duration like"):
        seconds(text)
