"""Asks why as soon as a flow failed, while the kernels still know it, and keeps the answer for the report.

Whether a failure was meant is known later, when the script's checks were made: reasons
of flows that ended as the script expects are thrown away.  What asks and decides is
imported when something failed: a run that goes well pays for reading its counters once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hoplab.cluster.cluster import Cluster
from hoplab.hops.decisive import Explain
from hoplab.hops.evidence import Evidence, RuleId, RuleText
from hoplab.hops.findings import Check
from hoplab.hops.reason import Reason
from hoplab.hops.sightings import read_frames
from hoplab.hops.story import Flow
from hoplab.net.namespaces import Namespace
from hoplab.report.run import explain_by
from hoplab.watch.counters import Remembered

if TYPE_CHECKING:
    from hoplab.reasons.facts import Facts, HealthFact
    from hoplab.watch.asking import Asker

MOST = 64
"""Flows of one send whose failure is looked into: of many alike a few tell it all."""
TOLD_BESIDE = 3
"""Flows with a reason of their own that are told although the script did not mean them for the story."""


@dataclass(slots=True)
class Inquiry:
    """Reasons of the failed flows of one run."""

    cluster: Cluster
    counters: Remembered = field(default_factory=Remembered)
    _asker: Asker | None = None
    _found: dict[int, tuple[Flow, tuple[Reason, ...]]] = field(default_factory=dict)
    """By id() of the flow, which is kept so that the id stays its own."""
    _meant: dict[int, Flow] = field(default_factory=dict)
    _failed: dict[int, Flow] = field(default_factory=dict)
    _checks: dict[int, Flow] = field(default_factory=dict)
    """id() of a failed check -> the flow that it is about."""
    of_run: dict[tuple[str, str, str], Reason] = field(default_factory=dict)
    """Reasons that only many flows together show."""
    _together: dict[int, tuple[Reason, ...]] = field(default_factory=dict)

    def look(self, flows: Iterable[Flow], evidence: Evidence, namespaces: Mapping[str, Namespace]) -> None:
        """Find the reasons of those flows that were not answered."""
        failed = [flow for flow in flows if flow.outcome != "accepted"][:MOST]
        if failed:
            self._decide(failed, evidence, namespaces)

    def why(self, flow: Flow, evidence: Evidence, namespaces: Mapping[str, Namespace]) -> tuple[Reason, ...]:
        """The reasons of one flow, looked for now if they were not before."""
        if id(flow) not in self._found:
            self._decide([flow], evidence, namespaces)
        return self._found[id(flow)][1]

    def _decide(self, flows: Sequence[Flow], evidence: Evidence, namespaces: Mapping[str, Namespace]) -> None:
        from hoplab.reasons.case import Case
        from hoplab.reasons.decide import reasons
        from hoplab.reasons.facts import Facts

        try:
            facts = self.facts(flows, namespaces)
        except OSError:
            # A kernel that does not answer (a namespace that is just going, say) leaves what was seen.
            facts = Facts({name: namespace.role for name, namespace in namespaces.items()})
        frames = {frame.number: frame for frame in evidence.frames}
        _sightings, arps = read_frames(frame for frame in evidence.frames if frame.data[12:14] == b"\x08\x06")
        explain = self.explain()
        for flow in flows:
            self._found[id(flow)] = (flow, reasons(Case(flow, facts, frames, arps, explain)))

    def facts(self, flows: Sequence[Flow], namespaces: Mapping[str, Namespace]) -> Facts:
        """What the kernels say now.  Raises OSError."""
        hosts = {running.namespace.name: running.pod.node_name for running in self.cluster.running()}
        return self._ask().look(flows, namespaces, hosts, self._health())

    def _ask(self) -> Asker:
        if self._asker is None:
            from hoplab.watch.asking import Asker

            self._asker = Asker(self.counters)
        return self._asker

    def close(self) -> None:
        """Stop asking."""
        if self._asker is not None:
            self._asker.close()

    def _health(self) -> Iterator[HealthFact]:
        """What the nodes answered the balancer's last health check, Service by Service."""
        from hoplab.cluster.balancing import health_target
        from hoplab.reasons.facts import HealthFact

        findings = {f.target: f for f in (self.cluster.balancer.findings if self.cluster.balancer else ())}
        for service in self.cluster.objects.services.values():
            for agent in self.cluster.nodes.values() if service.type == "LoadBalancer" else ():
                found = findings.get(health_target(service, agent.node))
                if found is not None:
                    to = found.target
                    yield HealthFact(to.node, to.address, to.port, found.healthy, found.detail, service.key)

    def explain(self) -> Explain:
        """The objects behind rules, as reports tell them."""
        return explain_by(self.cluster.object_of())

    def together(
        self, flows: Sequence[Flow], rules: Mapping[RuleId, RuleText], namespaces: Mapping[str, Namespace]
    ) -> tuple[Reason, ...]:
        """What is wrong with flows that were sent together, though none of them shows it alone."""
        from hoplab.reasons.facts import Facts
        from hoplab.reasons.together import Many, reasons_together

        roles = {name: namespace.role for name, namespace in namespaces.items()}
        found = reasons_together(Many(flows, rules, Facts(roles, health=tuple(self._health())), self.explain()))
        self.of_run |= {_key(reason): reason for reason in found}
        return found

    # What the script's checks say

    def judged(self, flow: Flow, check: Check) -> None:
        """A check about a flow was made."""
        if not check.passed:
            self._failed[id(flow)] = flow
            self._checks[id(check)] = flow
        elif check.expected == flow.outcome:
            # It ended as it should, which may be that nobody answered.
            self._meant[id(flow)] = flow

    def failed(
        self,
        check: Check,
        flows: Sequence[Flow],
        rules: Mapping[RuleId, RuleText],
        namespaces: Mapping[str, Namespace],
    ) -> None:
        """A check failed; `flows` are those that were sent last."""
        self._together[id(check)] = self.together(flows, rules, namespaces)

    def of(self, flow: Flow) -> tuple[Reason, ...]:
        """What was found for a flow that was not meant to fail."""
        if id(flow) in self._meant and id(flow) not in self._failed:
            return ()
        return self._found.get(id(flow), (flow, ()))[1]

    def told(self, flows: Sequence[Flow]) -> tuple[Flow, ...]:
        """The story's flows with their reasons, and a few more that have reasons which none of these has."""
        with_reasons = [replace(flow, reasons=self.of(flow)) for flow in flows]
        known = {_key(reason) for flow in with_reasons for reason in flow.reasons}
        mine = {id(flow) for flow in flows}
        # Where something is certain, what is left open is mostly a consequence of it.
        certain = any(reason.decided for flow in with_reasons for reason in flow.reasons)
        beside: list[Flow] = []
        for flow, found in self._found.values():
            why = self.of(flow) if id(flow) not in mine else ()
            new = [reason for reason in why if _key(reason) not in known and (reason.decided or not certain)]
            if new and len(beside) < TOLD_BESIDE:
                beside.append(replace(flow, reasons=found))
                known.update(map(_key, new))
        return (*with_reasons, *beside)

    def explained(self, checks: Sequence[Check], told: Collection[Flow]) -> tuple[Check, ...]:
        """Failed checks with the reasons of the flow that they are about; of the run's where they name none."""
        every = {_key(reason): reason for flow in told for reason in flow.reasons}
        return tuple(check if check.passed else replace(check, reasons=self._for(check, every)) for check in checks)

    def _for(self, check: Check, every: Mapping[tuple[str, str, str], Reason]) -> tuple[Reason, ...]:
        flow, together = self._checks.get(id(check)), self._together.get(id(check), ())
        own = self.of(flow) if flow is not None else ()
        return (*own, *together) or tuple(every.values())[:TOLD_BESIDE] if flow is None else (*own, *together)


def _key(reason: Reason) -> tuple[str, str, str]:
    return reason.cause, reason.node, reason.object
