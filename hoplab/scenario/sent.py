"""What scripts get of a flow: a probe that was sent, or one leg of its story, and what can be expected of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hoplab.cluster.node import NodeAgent, PodOnNode
from hoplab.hops import leg_checks, verdict
from hoplab.hops.findings import Check
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, Hop, Outcome
from hoplab.probe.result import ProbeResult


class Seen:
    """A flow that was seen; each `expect_...` adds one check to the run and returns it."""

    def __init__(self, keep: Callable[[Check], Check], flow: Flow) -> None:
        self._keep, self.flow = keep, flow

    @property
    def nodes(self) -> tuple[str, ...]:
        """The namespaces that the first packet was seen in, in order."""
        return tuple(hop.node for hop in self.flow.forward)

    def hop(self, node: str) -> Hop | None:
        """The first packet's first passage through a namespace, None when it was not seen there."""
        return next((hop for hop in self.flow.forward if hop.node == node), None)

    @property
    def last(self) -> Hop | None:
        """The first packet's last passage, None when it was seen nowhere."""
        return self.flow.forward[-1] if self.flow.forward else None

    def expect_outcome(self, outcome: Outcome, name: str = "") -> Check:
        """How the exchange ended, as the sender's interface saw it."""
        return self._keep(verdict.expect_outcome(self.flow, outcome, name))

    def expect_hops(self, *nodes: str, name: str = "") -> Check:
        """The namespaces that the first packet passed, exactly these in this order."""
        return self._keep(verdict.expect_hops(self.flow, *nodes, name=name))

    def expect_reply_hops(self, *nodes: str, name: str = "") -> Check:
        """The namespaces that the first answer passed."""
        return self._keep(verdict.expect_reply_hops(self.flow, *nodes, name=name))

    def expect_dnat(self, on: str, to: PodOnNode | NodeAgent | str, port: int, name: str = "") -> Check:
        """On that node the destination became this pod's, node's or given address."""
        return self._keep(verdict.expect_dnat(self.flow, on, _address(to), port, name))

    def expect_masquerade(self, on: str, name: str = "", **options: Any) -> Check:
        """On that node a masquerade rule took the packet and its source changed."""
        return self._keep(verdict.expect_masquerade(self.flow, on, name=name, **options))

    def expect_no_masquerade(self, on: str, name: str = "") -> Check:
        """On that node the source stayed, and the traced rules show why."""
        return self._keep(verdict.expect_no_masquerade(self.flow, on, name))

    def expect_no_nat(self, on: str = "", name: str = "") -> Check:
        """No address or port changed on that node, or on the whole way."""
        return self._keep(verdict.expect_no_nat(self.flow, on, name))

    def expect_source_seen(self, address: PodOnNode | NodeAgent | str, at: str = "", name: str = "") -> Check:
        """The source address with which the packet came to its receiver."""
        return self._keep(verdict.expect_source_seen(self.flow, _address(address), at, name))

    def expect_endpoint(self, *pods: PodOnNode, port: int, name: str = "") -> Check:
        """The packet was delivered to one of these pods and answered."""
        return self._keep(verdict.expect_endpoint(self.flow, [(pod.ips[0], port) for pod in pods], name))

    def expect_reply_undone(self, name: str = "") -> Check:
        """Each rewrite was undone on the way back, and the sender got its answer from whom it addressed."""
        return self._keep(verdict.expect_reply_undone(self.flow, name))

    def expect_conntrack(self, on: str, name: str = "", **options: Any) -> Check:
        """That node's connection tracking remembers the rewrite."""
        return self._keep(verdict.expect_conntrack(self.flow, on, name=name, **options))

    def expect_rule(self, on: str, name: str = "", **options: Any) -> Check:
        """The first packet met this rule there."""
        return self._keep(verdict.expect_rule(self.flow, on, name=name, **options))


class Sent(Seen):
    """A probe that was sent and its flow.

    Where a proxy passes the flow on, what is expected of it here is about the client's own connection (leg 1);
    `leg(2)` is the connection that the proxy opened.
    """

    def __init__(
        self,
        keep: Callable[[Check], Check],
        flow: Flow,
        result: ProbeResult,
        why: Callable[[Flow], tuple[Reason, ...]] = lambda flow: flow.reasons,
    ) -> None:
        super().__init__(keep, flow)
        self.result, self._why = result, why

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it did not end as it should, asked of the kernels now unless that was done when it failed."""
        return self._why(self.flow)

    @property
    def pod(self) -> str:
        """Name of the pod that answered, by its own word."""
        return self.result.pod

    def leg(self, number: int) -> Seen:
        """The flow's leg of this number (2: the connection by which the first proxy passed it on).

        Where there is none, every expectation of it fails and says why.
        """
        return Seen(self._keep, leg_checks.leg_flow(self.flow, number))

    def expect_legs(self, *ways: Sequence[str], name: str = "") -> Check:
        """All legs, each by exactly these namespaces: expect_legs(("client", "lb"), ("lb", "node1", "pod/a"))."""
        return self._keep(leg_checks.expect_legs(self.flow, *ways, name=name))

    def expect_second_leg(self, by: str = "", name: str = "") -> Check:
        """The request was seen to go on, in a connection that its receiver (the namespace `by`) opened."""
        return self._keep(leg_checks.expect_leg(self.flow, 2, by, name))

    def expect_no_second_leg(self, name: str = "") -> Check:
        """Its receiver answered without opening a connection for it."""
        return self._keep(leg_checks.expect_no_leg(self.flow, 2, name))

    def expect_client_told(self, how: str, client: PodOnNode | NodeAgent | str, leg: int = 2, name: str = "") -> Check:
        """The proxy told who its client is: `how` is 'PROXY', or an HTTP header such as 'X-Forwarded-For'."""
        return self._keep(leg_checks.expect_client_told(self.flow, how, _address(client), leg, name))

    def expect_complete(self, name: str = "") -> Check:
        """The whole exchange went through: handshake, request, answer, and both ends' FIN, on the same way."""
        ways = {tuple(h.node for h in p.hops) for p in self.flow.passages if not p.reply and p.label != "RST"}
        backs = {tuple(h.node for h in p.hops) for p in self.flow.passages if p.reply}
        labels = [p.label for p in self.flow.passages]
        observed = f"{', '.join(labels) or 'nothing'}; {len(ways)} way(s) there, {len(backs)} back"
        if not self.result.complete:
            observed += f"; {self.result.outcome}: {self.result.reason or 'not finished'}"
        passed = self.result.complete and len(ways) == 1 and len(backs) == 1
        frames = tuple(f"frame {n}" for p in self.flow.passages for h in p.hops for n in h.frames)
        return self._keep(
            Check(
                name or "the whole exchange",
                passed,
                "handshake, request, answer and end of both directions, each packet by the same way",
                observed,
                (f"frames {frames[0].split()[1]} to {frames[-1].split()[1]}",) if frames else (),
            )
        )


def _address(what: PodOnNode | NodeAgent | str) -> str:
    if isinstance(what, PodOnNode):
        return what.ips[0]
    if isinstance(what, NodeAgent):
        return what.node.addresses[0]
    return what
