"""What is counted of a load: failures, who answered, the longest silence."""

from __future__ import annotations

import pytest

from hoplab.scenario.load import Load, Request


def load(*requests: tuple[float, float, str, str]) -> Load:
    made = Load()
    made.requests = tuple(Request(*each, port=50000 + number) for number, each in enumerate(requests))
    return made


ANSWERED = (10.0, 0.1, "answered", "a")


def test_failures_are_counted_by_their_kind_with_the_frames_that_refused_them() -> None:
    found = load(ANSWERED, (10.1, 0.0, "ECONNREFUSED", ""), (10.3, 1.0, "timed out", ""), (10.4, 0.1, "HTTP 503", "b"))
    found.refusals = {50001: 77}
    assert found.words == "3 of 4 requests failed (ECONNREFUSED: 1; HTTP 503: 1; timed out: 1)"
    assert found.evidence == ["failures from 0.10 s to 0.40 s", "frame 77"]
    assert found.pods == {"a": 1}


def test_without_failures_there_is_nothing_to_show() -> None:
    assert load(ANSWERED).words == "0 of 1 requests failed"
    assert load(ANSWERED).evidence == []


@pytest.mark.parametrize(
    ("requests", "silence"),
    [
        ((), 0.0),
        ((ANSWERED,), 0.1),
        ((ANSWERED, (10.5, 0.1, "answered", "b")), 0.5),
        ((ANSWERED, (10.5, 1.0, "timed out", "")), 1.4),
        (((10.0, 1.0, "timed out", ""), (11.0, 0.2, "answered", "b")), 1.2),
    ],
)
def test_silence_lasts_from_answer_to_answer_and_to_the_end(
    requests: tuple[tuple[float, float, str, str], ...], silence: float
) -> None:
    assert load(*requests).silence_s == pytest.approx(silence)
