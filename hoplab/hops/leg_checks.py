"""Expectations of the legs by which proxies pass a flow on; each is one `Check`, as in `verdict`."""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.hops.findings import Check, gaps, lost, receiver, ways
from hoplab.hops.story import Flow, Leg


def leg_of(flow: Flow, number: int) -> Leg | None:
    """The leg of this number: the last that carried the request, else the last attempt; None when there is none.

    A proxy may try several servers for one request; the others are in `flow.legs`.
    """
    found = [leg for leg in flow.legs if leg.number == number]
    return next((leg for leg in reversed(found) if leg.carried), found[-1] if found else None)


def leg_flow(flow: Flow, number: int) -> Flow:
    """The flow of a leg (1: the client's own); an empty one that says why where there is no such leg."""
    if number == 1:
        return flow
    leg = leg_of(flow, number)
    return leg.flow if leg else Flow(f"{flow.name}, leg {number}", "tcp", "unanswered", (), (), reason=_why_none(flow))


def legs_words(flow: Flow) -> str:
    """'client -> lb | lb -> node1 -> pod/a': the ways of all legs that there are."""
    numbers = range(1, 2 + max((leg.number for leg in flow.legs), default=0))
    every = [leg_flow(flow, number) for number in numbers if number == 1 or leg_of(flow, number)]
    return " | ".join(" -> ".join(hop.node for hop in one.forward) or "nowhere" for one in every)


def expect_legs(flow: Flow, *expected: Sequence[str], name: str = "") -> Check:
    """Exactly these legs, each by exactly these namespaces, every hop seen, every further leg seen to carry it."""
    count = max((leg.number for leg in flow.legs), default=1)
    faults = [] if count == len(expected) else [f"{count} leg(s) instead of {len(expected)}: {_why_none(flow)}"]
    evidence: list[str] = []
    for number, nodes in enumerate(expected, 1):
        one, leg = leg_flow(flow, number), leg_of(flow, number)
        evidence += (*ways(one.forward), *(leg.joined_by if leg else ()))
        if [hop.node for hop in one.forward] == list(nodes):
            faults += gaps(one.forward)
        else:
            faults.append(f"leg {number} went {' -> '.join(h.node for h in one.forward) or 'nowhere'}: {one.reason}")
        if leg is not None and not leg.carried:
            faults.append(f"leg {number} carried nothing: {one.reason}")
    words = " | ".join(" -> ".join(nodes) for nodes in expected)
    observed = "; ".join((legs_words(flow), *(each.rstrip(": ") for each in faults)))
    return Check(name or "legs", bool(expected) and not faults, words, observed, tuple(evidence))


def expect_leg(flow: Flow, number: int = 2, by: str = "", name: str = "") -> Check:
    """The request went on, in a connection that its receiver (or `by`) opened, and was seen on it."""
    before, leg = leg_flow(flow, number - 1), leg_of(flow, number)
    hop = receiver(before)
    who = by or (hop.node if hop else "its receiver")
    expected = f"{who} passes the request on in a connection of its own (leg {number})"
    title = name or f"leg {number}"
    if leg is None:
        return Check(title, False, expected, _why_none(flow), ways(before.forward))
    observed = f"{leg.flow.sender} opened one, {leg.flow.outcome}" + (f": {leg.flow.reason}" if leg.flow.reason else "")
    if not leg.carried:
        observed += "; nothing was seen to go over it"
    passed = leg.carried and leg.flow.sender == who
    return Check(title, passed, expected, observed, (*leg.joined_by, *ways(leg.flow.forward)))


def expect_no_leg(flow: Flow, number: int = 2, name: str = "") -> Check:
    """The receiver answered by itself: it opened no connection for the request (leg `number`)."""
    before, found = leg_flow(flow, number - 1), [leg for leg in flow.legs if leg.number == number]
    hop = receiver(before)
    where = hop.node if hop else "the receiver"
    expected = f"{where} answers by itself and opens no connection for it"
    title = name or f"no leg {number}"
    if hop is None or not before.reply:
        return Check(title, False, expected, f"no answer was seen: {before.reason}", ways(before.forward))
    evidence = (*ways(before.forward[-1:]), *ways(before.reply[:1]))
    if found:
        observed = "; ".join(f"{leg.flow.sender} opened one: {leg.joined_by[0]}" for leg in found)
        return Check(title, False, expected, observed, evidence)
    missing = lost(flow, where, "frames")
    doubt = flow.beyond if flow.doubtful else ""
    observed = missing or doubt or f"{where} answered, and no SYN of its own left it for this request"
    return Check(title, not (missing or doubt), expected, observed, evidence)


def expect_client_told(flow: Flow, how: str, client: str, number: int = 2, name: str = "") -> Check:
    """The proxy told the next one who its client is: by a 'PROXY' header, or by an HTTP header of this name.

    `client` is the address that has to stand in it.
    """
    expected = f"leg {number} tells {client} as the client, by {how}"
    title = name or f"client told by {how}"
    leg = leg_of(flow, number)
    if leg is None:
        return Check(title, False, expected, _why_none(flow), ways(flow.forward))
    told = [leg.proxy_header] if how.upper() == "PROXY" else _headers(leg, how)
    observed = "; ".join(filter(None, told)) or f"no such header; seen: {', '.join(_all(leg)) or 'none'}"
    named = [_client_in(each, how) for each in told if each]
    return Check(title, client in named, expected, observed, ways(leg.flow.forward))


def _headers(leg: Leg, how: str) -> list[str]:
    return [each for each in leg.forwarded if each.lower().startswith(f"{how.lower()}:")]


def _all(leg: Leg) -> list[str]:
    return [*filter(None, [leg.proxy_header]), *leg.forwarded]


def _client_in(told: str, how: str) -> str:
    """The first address that a header names: whom the first proxy saw."""
    if how.upper() == "PROXY":
        return told.partition(": ")[2].partition(" -> ")[0].rpartition(":")[0].strip("[]")
    first = told.partition(":")[2].split(",")[0].strip()
    if how.lower() == "forwarded":
        first = next((p.partition("=")[2] for p in first.split(";") if p.strip().lower().startswith("for=")), "")
    return first.strip('"[]')


def _why_none(flow: Flow) -> str:
    """Why there is no further leg, as far as the evidence goes."""
    hop = receiver(flow)
    if flow.beyond:
        return flow.beyond
    if hop is None:
        return f"the client's connection was not taken: {flow.reason or flow.outcome}"
    return f"{hop.node} was not seen to open a connection for it"
