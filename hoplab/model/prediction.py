"""What the evaluator foretells: one way of a packet through one namespace, with its probability and its path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from hoplab.model.packet import Packet
from hoplab.model.state import CT_STATES, PROTOCOL_NAMES, TCP_FLAGS, CtState, State, Step, address_text

Outcome = Literal["accepted", "rejected", "dropped", "unhandled"]
Remembered = tuple[tuple[str, str, str, object, object], ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One possible fate of a packet in one namespace.

    `accepted`: a nat rule gave it a destination and it passed all hooks.  `unhandled`: it passed all hooks and no nat
    rule took it (it goes where it was going anyway).  `rejected` and `dropped`: by a rule, a policy or the routing,
    see `reason`.
    """

    probability: Fraction
    outcome: Outcome
    endpoint: str
    """address:port that the packet has as destination at the end."""
    masqueraded: bool
    """Whether a masquerade rule took it (its address may stay the same)."""
    delivered: bool
    """Whether a socket of this namespace gets it; else, if it passed, it leaves by `out_interface`."""
    packet: Packet
    """The packet as it is at the end, as the next namespace would receive it but for the interface."""
    out_interface: str
    next_hop: str
    path: tuple[Step, ...]
    reason: str = ""
    assumptions: tuple[str, ...] = ()
    """What had to be assumed to give a probability; empty when it is exact."""
    remembers: Remembered = ()
    redirected: bool = False
    """Whether a DNAT rule (or, of a known connection, its translation) took it."""

    @classmethod
    def of(
        cls, state: State, end: Literal["passed", "delivered", "rejected", "dropped"], reason: str = ""
    ) -> Prediction:
        """The prediction at the end of a way."""
        redirected = state.redirected or state.dnat
        passes = end in ("passed", "delivered")
        passed: Outcome = "accepted" if redirected else "unhandled"
        return cls(
            probability=state.probability,
            outcome=end if end == "rejected" or end == "dropped" else passed,
            endpoint=state.endpoint,
            masqueraded=state.masqueraded,
            delivered=end == "delivered",
            packet=_packet(state),
            out_interface=state.out_interface if passes else "",
            next_hop=state.next_hop if passes else "",
            path=state.trail.steps() if state.trail else (),
            reason=reason,
            assumptions=state.assumptions,
            remembers=state.remembers,
            redirected=redirected,
        )

    @property
    def passes(self) -> bool:
        """Whether the packet got through this namespace."""
        return self.outcome in ("accepted", "unhandled")

    @property
    def source(self) -> str:
        """The source address at the end."""
        return self.packet.src

    @property
    def summary_key(self) -> tuple[str, ...]:
        """What makes two outcomes the same to whoever sends the packet."""
        return (
            self.outcome, self.endpoint, str(self.masqueraded), self.source, str(self.delivered), self.out_interface,
            self.next_hop, "" if self.passes else self.reason, str(self.packet.mark),
        )  # fmt: skip

    def with_probability(self, probability: Fraction | int, group: list[Prediction]) -> Prediction:
        """This outcome standing for a group of equal ones."""
        assumptions = tuple(dict.fromkeys(text for each in group for text in each.assumptions))
        return replace(self, probability=Fraction(probability), assumptions=assumptions)


def _packet(state: State) -> Packet:
    return Packet(
        src=address_text(state.version, state.src),
        sport=state.sport,
        dst=address_text(state.version, state.dst),
        dport=state.dport,
        protocol=PROTOCOL_NAMES.get(state.protocol, str(state.protocol)),
        mark=state.mark,
        ct_state=_ct_state(state.ct_state),
        tcp_flags=tuple(name for name, bit in TCP_FLAGS.items() if state.tcp_flags & bit),
        icmp_type=state.icmp_type,
        icmp_code=state.icmp_code,
        reply=state.reply,
    )


def _ct_state(bit: int) -> CtState:
    return next(name for name, each in CT_STATES.items() if each == bit)
