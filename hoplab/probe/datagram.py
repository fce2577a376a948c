"""A datagram and the answer to it: UDP with a token, and ICMP echo.

The smallest of all state machines: sent, perhaps sent again, answered or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from hoplab.probe.seen import Seen, in_words
from hoplab.probe.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class DatagramPlan:
    """What is sent, and how often at most beyond the first time (`retry_s` doubles each time)."""

    payload: bytes
    retries: int = 0
    retry_s: float = 0.25
    same_payload_returns: bool = False
    """ICMP echo: only an answer with this very payload is one (RFC 792)."""


class DatagramClient:
    """One question.  Times are seconds of any clock that does not go back."""

    def __init__(self, plan: DatagramPlan) -> None:
        self.plan = plan
        self._tries = 0
        self._timer: float | None = None
        self._ended: tuple[Outcome, str] | None = None
        self._response = b""
        self._notes: list[str] = []

    def start(self, now: float) -> list[bytes]:
        """The payload of the first datagram."""
        self._arm(now)
        return [self.plan.payload]

    def on_packet(self, seen: Seen, now: float) -> list[bytes]:
        """Take an answer, or an ICMP error about the question; nothing is ever sent in return."""
        del now
        if self._ended is not None:
            if seen.error is None:
                self._note("a second answer came")
            return []
        if seen.error is not None:
            self._end("rejected", in_words(seen.error))
        elif self.plan.same_payload_returns and seen.payload != self.plan.payload:
            self._note("an echo reply with another payload came")
        else:
            self._response = seen.payload
            self._end("accepted", "")
        return []

    @property
    def wakes_at(self) -> float | None:
        """When `on_time` wants to be called, if nothing comes before."""
        return self._timer

    def on_time(self, now: float) -> list[bytes]:
        """Ask again."""
        if self._timer is None or now < self._timer:
            return []
        self._tries += 1
        self._arm(now)
        return [self.plan.payload]

    def give_up(self, why: str) -> list[bytes]:
        """Stop waiting."""
        self._end("unanswered", f"no answer {why}")
        return []

    @property
    def finished(self) -> bool:
        """Whether nothing more is waited for."""
        return self._ended is not None

    @property
    def verdict(self) -> Verdict:
        """How it ended.  Only meaningful when finished."""
        outcome, reason = self._ended or ("unanswered", "still under way")
        return Verdict(outcome, reason, self._response, outcome == "accepted", tuple(self._notes))

    def _arm(self, now: float) -> None:
        again = self._tries < self.plan.retries
        self._timer = now + self.plan.retry_s * 2**self._tries if again else None

    def _end(self, outcome: Outcome, reason: str) -> None:
        if self._ended is None:
            self._ended = (outcome, reason)
        self._timer = None

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)
