"""A TCP client as a state machine: segments in, segments out, no socket and no clock.

The kernel's TCP would do as a client, but not with a chosen initial sequence
number, and the sequence number is what makes a packet recognizable behind NAT.
This is RFC 9293's client half with its states and their names: connect, send one
request, read the answer, close both ways.  Inside, sequence numbers count from the
SYN of their side (SYN 0, first byte 1), so that nothing below has to think of
wrapping; the wire's 32 bits appear only where segments are made and read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hoplab.probe.seen import IcmpError, Seen, in_words
from hoplab.probe.shapes import ACK, FIN, PSH, RST, SYN, Segment
from hoplab.probe.verdict import Outcome, Verdict

State = Literal[
    "closed", "syn-sent", "established", "fin-wait-1", "fin-wait-2", "closing", "close-wait", "last-ack", "time-wait"
]

DEFAULT_MSS = 536
"""RFC 9293 3.7.1: of a peer that sent no MSS option over IPv4."""
RECEIVE_WINDOW = 1 << 20
HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class TcpPlan:
    """What a client is to do.

    `close`: 'server' waits for the server's FIN (the request asks for it), 'client'
    sends a FIN behind the request, 'reset' ends a connection with RST as soon as it
    was accepted (a half-open scan), 'abort' answers the server's FIN with RST.
    `retries` 0 never sends anything twice; `retry_s` is the first timeout, doubled each time.
    """

    isn: int
    request: bytes = b""
    close: Literal["server", "client", "reset", "abort"] = "server"
    mss: int = 1460
    retries: int = 0
    retry_s: float = 0.25


class TcpClient:
    """One connection.  Times are seconds of any clock that does not go back."""

    def __init__(self, plan: TcpPlan) -> None:
        self.plan = plan
        self.state: State = "closed"
        self._una = 0
        """Oldest number not acknowledged."""
        self._next = 0
        """Next number to send."""
        self._window = 0
        self._mss = plan.mss
        self._want_fin = plan.close == "client"
        self._irs = 0
        """The server's initial sequence number, as on the wire."""
        self._received = bytearray()
        self._early: dict[int, bytes] = {}
        """Payload that came before what precedes it, by its number."""
        self._fin_at: int | None = None
        self._tries = 0
        self._timer: float | None = None
        self._ended: tuple[Outcome, str] | None = None
        self._notes: list[str] = []

    # What the caller drives.

    def start(self, now: float) -> list[Segment]:
        """The SYN."""
        self.state, self._next = "syn-sent", 1
        self._arm(now)
        return [Segment(SYN, self.plan.isn)]

    def on_packet(self, seen: Seen, now: float) -> list[Segment]:
        """Take a segment of this connection, or an ICMP error about it; what to send in return."""
        if seen.error is not None:
            return self._on_error(seen.error, now)
        if self.state == "closed":
            return []
        if self.state == "syn-sent":
            return self._on_first(seen, now)
        return self._on_segment(seen, now)

    @property
    def wakes_at(self) -> float | None:
        """When `on_time` wants to be called, if nothing comes before."""
        return self._timer

    def on_time(self, now: float) -> list[Segment]:
        """Send again what was not acknowledged in time."""
        if self._timer is None or now < self._timer:
            return []
        self._tries += 1
        self._arm(now)
        if self.state == "syn-sent":
            return [Segment(SYN, self.plan.isn)]
        # Go back to the oldest: RFC 6298 (5.4) sends that one segment again, the ACK for it tells about the rest.
        return [self._segment_at(self._una)]

    def give_up(self, why: str) -> list[Segment]:
        """Stop waiting; a connection that the server still holds is reset, as a dying client's kernel would do."""
        connected = self.state not in ("closed", "syn-sent", "time-wait")
        if self._ended is None:
            if self.state == "syn-sent":
                self._ended = ("unanswered", f"no answer to the SYN {why}")
            elif self._received:
                self._ended = ("accepted", f"the answer came, but the connection was still {self.state} {why}")
            else:
                self._ended = ("unanswered", f"connected, but no answer to the request {why}")
        self.state, self._timer = "closed", None
        return [self._segment(RST | ACK, self._next)] if connected else []

    @property
    def finished(self) -> bool:
        """Whether nothing more is waited for.  (A late FIN is still acknowledged.)"""
        return self._ended is not None

    @property
    def verdict(self) -> Verdict:
        """How it ended.  Only meaningful when finished."""
        outcome, reason = self._ended or ("unanswered", "still under way")
        complete = outcome == "accepted" and not reason
        return Verdict(outcome, reason, bytes(self._received), complete, tuple(self._notes))

    # Arrivals.

    def _on_first(self, seen: Seen, now: float) -> list[Segment]:
        acknowledged = bool(seen.flags & ACK) and _distance(seen.ack, self.plan.isn) == 1
        if seen.flags & RST:
            if acknowledged:
                self._end("rejected", f"RST from {seen.source} in answer to the SYN")
            return []
        if not (seen.flags & SYN and acknowledged):
            self._note(f"{seen.source} answered the SYN with a segment that does not acknowledge it")
            return []
        self._irs, self._una, self._window = seen.seq, 1, seen.window
        self._mss = min(self.plan.mss, seen.mss or DEFAULT_MSS)
        self.state, self._tries, self._timer = "established", 0, None
        if self.plan.close == "reset":
            self._end("accepted", "")
            return [Segment(RST, self.plan.isn + 1)]
        return [self._acknowledgement(), *self._send_more(now)]

    def _on_segment(self, seen: Seen, now: float) -> list[Segment]:
        number = _distance(seen.seq, self._irs)
        if seen.flags & RST:
            if 0 <= number - self._expected < RECEIVE_WINDOW and self.state != "time-wait":
                how = "before it had answered" if not self._received else "in the middle of its answer"
                self._end("rejected", f"{seen.source} reset the connection {how}")
            return []
        if seen.flags & SYN:
            # Our ACK of the handshake was lost.
            return [self._acknowledgement()]
        moved = self._take_acknowledgement(seen, now)
        expected = self._expected
        self._take_payload(number, seen)
        if self.plan.close == "abort" and self._peer_closed:
            answered = bool(self._received) or not self.plan.request
            self._end(*(("accepted", "") if answered else ("unanswered", "the server closed without an answer")))
            return [self._segment(RST | ACK, self._next)]
        news = self._expected != expected
        answer = self._send_more(now) if moved or news else []
        occupies = bool(seen.payload) or bool(seen.flags & FIN)
        if occupies and not answer:
            answer = [self._acknowledgement()]
        self._change_state()
        return answer

    def _take_acknowledgement(self, seen: Seen, now: float) -> bool:
        """Whether the ACK let the window or the oldest number move."""
        acknowledged = _distance(seen.ack, self.plan.isn)
        if not seen.flags & ACK or not self._una <= acknowledged <= self._next:
            return False
        moved = acknowledged > self._una or seen.window > self._window
        if acknowledged > self._una:
            self._una, self._tries = acknowledged, 0
            self._arm(now)
        self._window = seen.window
        return moved

    def _take_payload(self, number: int, seen: Seen) -> None:
        """Put the payload in its place; whatever overlaps what is there already is dropped."""
        if seen.flags & FIN:
            self._fin_at = number + len(seen.payload)
        ahead = number - self._expected
        if seen.payload and ahead < RECEIVE_WINDOW:
            self._early[number] = max(seen.payload, self._early.get(number, b""), key=len)
        while True:
            fitting = [n for n in self._early if n <= len(self._received) + 1]
            if not fitting:
                break
            for n in fitting:
                payload = self._early.pop(n)
                self._received += payload[len(self._received) + 1 - n :]

    @property
    def _peer_closed(self) -> bool:
        return self._fin_at is not None and self._fin_at <= len(self._received) + 1

    @property
    def _expected(self) -> int:
        """The number that the server sends next: all before it are here."""
        return len(self._received) + 1 + self._peer_closed

    def _on_error(self, error: IcmpError, now: float) -> list[Segment]:
        if self._ended is not None:
            return []
        if error.asks_for_smaller:
            return self._on_smaller_mtu(error, now)
        if self.state == "syn-sent":
            self._end("rejected", in_words(error))
        else:
            # RFC 1122 4.2.3.9: an established connection outlives such news.
            self._note(in_words(error))
        return []

    def _on_smaller_mtu(self, error: IcmpError, now: float) -> list[Segment]:
        """RFC 1191: cut what was not acknowledged anew, in pieces that fit."""
        headers = 60 if ":" in error.reporter else 40
        mss = error.mtu - headers if error.mtu > headers else DEFAULT_MSS
        self._note(in_words(error))
        if mss >= self._mss or self.state in ("syn-sent", "closed"):
            return []
        self._mss, self._next = mss, self._una
        return self._send_more(now)

    # Departures.

    @property
    def _request_end(self) -> int:
        return 1 + len(self.plan.request)

    def _segment_at(self, number: int) -> Segment:
        """The segment that begins with this number: data, or the FIN behind it."""
        if number >= self._request_end:
            return self._segment(FIN | ACK, number)
        payload = self.plan.request[number - 1 :][: self._mss]
        last = number + len(payload) == self._request_end
        return self._segment(ACK | (PSH if last else 0), number, payload)

    def _send_more(self, now: float) -> list[Segment]:
        """All that the server's window and the plan allow to be sent now."""
        if self._peer_closed:
            self._want_fin = True
        segments = []
        limit = self._una + self._window
        while self._next < self._request_end and self._next < limit:
            segment = self._segment_at(self._next)
            if self._next + len(segment.payload) > limit:
                room = limit - self._next
                segment = self._segment(ACK | PSH, self._next, segment.payload[:room])
            segments.append(segment)
            self._next += len(segment.payload)
        if self._want_fin and self._next == self._request_end:
            segments.append(self._segment_at(self._next))
            self._next += 1
        if segments and self._timer is None:
            self._arm(now)
        self._change_state()
        return segments

    def _change_state(self) -> None:
        """RFC 9293 figure 5, told by what was sent, what was acknowledged, and whether the server closed."""
        if self._ended is not None and self.state in ("closed", "time-wait"):
            return
        fin_sent = self._next > self._request_end
        fin_acknowledged = self._una > self._request_end
        if not fin_sent:
            self.state = "close-wait" if self._peer_closed else "established"
        elif not self._peer_closed:
            self.state = "fin-wait-2" if fin_acknowledged else "fin-wait-1"
        elif not fin_acknowledged:
            # Who closed first is told by whether our FIN acknowledged theirs; both ways lead to the same end here.
            self.state = "closing" if self.plan.close == "client" else "last-ack"
        else:
            self.state = "time-wait"
            self._timer = None
            answered = bool(self._received) or not self.plan.request
            self._end(*(("accepted", "") if answered else ("unanswered", "the server closed without an answer")))

    def _acknowledgement(self) -> Segment:
        return self._segment(ACK, self._next)

    def _segment(self, flags: int, number: int, payload: bytes = b"") -> Segment:
        seq, ack = self.plan.isn + number, self._irs + self._expected
        return Segment(flags, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, payload)

    def _arm(self, now: float) -> None:
        outstanding = self._una < self._next
        again = outstanding and self._tries < self.plan.retries
        self._timer = now + self.plan.retry_s * 2**self._tries if again else None

    def _end(self, outcome: Outcome, reason: str) -> None:
        if self._ended is None:
            self._ended = (outcome, reason)
        if self.state != "time-wait":
            self.state = "closed"
        self._timer = None

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)


def _distance(number: int, since: int) -> int:
    """number - since on the circle of 32 bits, between -2^31 and 2^31 - 1."""
    return (number - since + HALF) % (1 << 32) - HALF
