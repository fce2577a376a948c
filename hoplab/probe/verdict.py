"""How a probe ended, as its sender alone could tell; what the network did is for `hops` to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["accepted", "rejected", "unanswered"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of an exchange.

    'accepted': the answer came, from where it was asked for.  'rejected': an RST or an
    ICMP error came instead.  'unanswered': neither came in time.
    """

    outcome: Outcome
    reason: str = ""
    """For anything but an accepted and complete exchange: what was seen, in words."""
    response: bytes = b""
    """The answer's payload."""
    complete: bool = False
    """Whether the exchange went through all of its steps (TCP: both FINs and their ACKs)."""
    notes: tuple[str, ...] = ()
    """What came besides and did not decide: a second answer, an answer from elsewhere, a smaller path MTU."""
