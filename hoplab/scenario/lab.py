"""What a scenario script is given: a running lab to send packets in, and expectations that become checks.

Every send waits until the lab has fallen silent, joins what was seen to one flow and
hands that back; every `expect_...` is one check of the run.  Nothing here looks at
configuration to say that something works.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hoplab.cluster.applying import apply_or_take_back
from hoplab.cluster.cluster import Cluster
from hoplab.cluster.node import NodeAgent, PodOnNode
from hoplab.errors import InputError
from hoplab.hops.evidence import ConntrackEvent, RuleId, RuleText
from hoplab.hops.findings import Check
from hoplab.hops.flow import ProbeKey, flows
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow
from hoplab.kube.load import load
from hoplab.net.cni import write_config
from hoplab.net.namespaces import Namespace
from hoplab.probe.prober import Prober, Unreachable
from hoplab.probe.result import Probe, ProbeResult
from hoplab.scenario.ends import Destination, Sender, ServiceRef
from hoplab.scenario.foretelling import Foreteller
from hoplab.scenario.inquiry import Inquiry
from hoplab.scenario.notes import Note, silent
from hoplab.scenario.sent import Sent
from hoplab.watch.observer import Observer
from hoplab.watch.watched import Target

if TYPE_CHECKING:
    from hoplab.probe.dns_messages import Message
    from hoplab.scenario.resolving import Resolved

WINDOW = 16
"""Probes under way at once: as many openings as an ordinary user's netlink buffers hold the rule events of."""

NOWHERE_IS_ENOUGH = 3
"""Flows that the balancer handed to no node at all, after which there is no use in trying on."""

TRIES_PER_NODE = 16
"""How many flows are tried, for each node, until the balancer picks the wanted one."""


@dataclass(slots=True)
class Lab:
    """The running lab, as scripts see it."""

    cluster: Cluster
    observer: Observer
    prober: Prober
    seed: int
    checks: list[Check] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    told: list[Flow] = field(default_factory=list)
    """Flows that the story tells hop by hop; of many equal ones only some are."""
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    foreteller: Foreteller | None = None
    inquiry: Inquiry | None = None
    note: Note = silent
    latest: Sequence[Flow] = ()
    """The flows that were sent last."""

    # Finding things

    def host(self, name: str) -> Sender:
        """Something to send from: `client`, `lb`, `router`, `node1`, `pod/NAME`.  Raises InputError."""
        if name not in self.namespaces:
            raise InputError(f"the lab has no {name!r}; it has {', '.join(sorted(self.namespaces))}")
        return Sender(self, name)

    def pod(self, name: str, namespace: str = "default") -> PodOnNode:
        """A running pod."""
        return self.cluster.pod(name, namespace)

    def node(self, name: str) -> NodeAgent:
        """A node.  Raises InputError."""
        if name not in self.cluster.nodes:
            raise InputError(f"the lab has no node {name!r}; its nodes are {', '.join(self.cluster.nodes)}")
        return self.cluster.nodes[name]

    def service(self, name: str, namespace: str = "default", port: str = "") -> ServiceRef:
        """A Service with its addresses."""
        return ServiceRef(self.cluster.service(name, namespace), port)

    # Checking

    def keep(self, check: Check) -> Check:
        """Make a check part of the run."""
        self.checks.append(check)
        if not check.passed and self.inquiry is not None:
            self.inquiry.failed(check, self.latest, self._rules(), self.namespaces)
        return check

    def keep_about(self, flow: Flow, check: Check) -> Check:
        """Make a check of this flow part of the run: if it fails, it is told why the flow went wrong."""
        if self.inquiry is not None:
            self.inquiry.judged(flow, check)
            if not check.passed:
                self.why(flow)
        return self.keep(check)

    def check(
        self, name: str, passed: object, expected: object, observed: object, evidence: Sequence[object] | str = ()
    ) -> Check:
        """A check of the script's own: it holds when `passed` is true; `observed` and `evidence` say what was seen."""
        lines = (evidence,) if isinstance(evidence, str) else tuple(map(str, evidence))
        return self.keep(Check(str(name), bool(passed), str(expected), str(observed), lines))

    # Changing

    def converge(self) -> None:
        """Have the controllers follow a change, and watch the pods that came."""
        self.note("the cluster to follow a change")
        self.cluster.converge()
        self.watch_new()

    def apply(self, manifest: str) -> None:
        """Apply objects written as YAML, and have the cluster follow.

        Raises ManifestError, InputError: then it is as before.
        """
        apply_or_take_back(self.cluster, load(manifest, "<applied by the script>").objects)
        self.watch_new()

    def use_network(self, node: str, name: str, text: str) -> None:
        """Put a network configuration into a node's /etc/cni/net.d; pods that come use the first file by name."""
        write_config(self.node(node).namespace, name, text)

    def delete_pod(self, name: str, namespace: str = "default") -> None:
        """Delete a pod (its workload makes another), and have the cluster follow.  Raises InputError."""
        running = self.pod(name, namespace)
        self.cluster.delete([("Pod", running.pod.meta.namespace, running.pod.meta.name)])
        self.converge()

    @contextmanager
    def serving(self, machine: str, address: str, port: int) -> Iterator[None]:
        """Have a small server answer on a machine (client, lb, node1, ...) for a while.  Raises SpawnFailed."""
        with self.cluster.serving(machine, address, port):
            yield

    def delete_slices(self, service: str, namespace: str = "default") -> None:
        """Delete the hand-written endpoints of a Service, and have the cluster follow."""
        slices = [
            ("EndpointSlice", *key)
            for key, piece in self.cluster.objects.slices.items()
            if (key[0], piece.service) == (namespace, service)
        ]
        self.cluster.delete([*slices, ("Endpoints", namespace, service)])
        self.converge()

    def watch_new(self) -> None:
        """Observe namespaces that were not there before, forget those that went."""
        now = self.cluster.namespaces()
        for name, namespace in self.namespaces.items():
            if now.get(name) != namespace:
                self.observer.remove(name)
                self.prober.forget(name)
        new = [ns for name, ns in now.items() if self.namespaces.get(name) != ns]
        self.observer.add([target(ns) for ns in new])
        if self.inquiry is not None:
            self.inquiry.counters.remember(new)
        self.namespaces.clear()
        self.namespaces.update(now)

    def check_health(self, timeout_s: float = 0.3) -> None:
        """Have the balancer ask the nodes now."""
        self.note("the balancer to ask the nodes")
        self.cluster.check_health(timeout_s)

    def conntrack(self, node: str) -> list[ConntrackEvent]:
        """The entries of one namespace's connection tracking."""
        return self.observer.conntrack_entries(node)

    @contextmanager
    def beyond_the_model(self) -> Iterator[None]:
        """Flows sent meanwhile are not held against what the model foretells: something it does not know decides."""
        foreteller, self.foreteller = self.foreteller, None
        try:
            yield
        finally:
            self.foreteller = foreteller

    # Names

    def resolve(self, sender: str, name: str, *, tell: bool = False) -> Resolved:
        """Look a name up as programs do, in that namespace; every question is seen, and told as a flow if wanted."""
        from hoplab.scenario import resolving

        found = resolving.look_up(self, sender, name)
        if tell:
            resolving.tell(self, found.flows)
        return found

    def ask_dns(self, sender: str, server: object, name: str, type_: str = "A") -> Message | None:
        """Send one crafted DNS question; the answer, or None."""
        from hoplab.scenario import resolving

        return resolving.ask(self, sender, server, name, type_)

    # Sending

    def destination(self, to: object, port: int) -> Destination:
        """Where a probe to this goes.  Raises InputError for something that has no address."""
        if isinstance(to, ServiceRef):
            return to.destination()
        if isinstance(to, Destination):
            return to
        if isinstance(to, PodOnNode):
            return Destination(to.ips[0], port, to.namespace.name)
        if isinstance(to, NodeAgent):
            return Destination(to.node.addresses[0], port, to.name)
        if isinstance(to, str):
            return Destination(to, port, to)
        raise InputError(f"can't send to {to!r}: expected a Service, a pod, a node or an address")

    def send(self, sender: str, protocol: str, to: object, port: int, **options: Any) -> Sent:
        """One probe; told hop by hop in the story."""
        sent = self.send_probes([self.probe(sender, protocol, to, port, options)])[0]
        self.told.append(sent.flow)
        return sent

    def send_picked(self, sender: str, protocol: str, to: object, port: int, node: str, **options: Any) -> Sent:
        """Probes from new source ports until the balancer picks `node`."""
        tries = TRIES_PER_NODE * max(1, len(self.cluster.nodes))
        nowhere, tried = 0, []
        for number in range(1, tries + 1):
            sent = self.send_probes([self.probe(sender, protocol, to, port, options)], keep=False)[0]
            tried.append(sent.flow)
            nowhere += entry_node(sent.flow) not in self.cluster.nodes
            if nowhere == NOWHERE_IS_ENOUGH:
                tries = number
                break
            if entry_node(sent.flow) == node:
                break
        # The last one is kept: the wanted one, or else its story shows where the flows go instead.
        self.flows.append(sent.flow)
        self.told.append(sent.flow)
        self.latest = tried
        if entry_node(sent.flow) != node:
            self.check(
                f"the balancer picks {node}",
                False,
                f"one of {tries} flows enters the cluster by {node}",
                f"none did; the last one went {' -> '.join(sent.nodes) or 'nowhere'}",
            )
        return sent

    def send_many(self, sender: str, to: object, port: int, ports: Sequence[int], **options: Any) -> list[Sent]:
        """Many TCP exchanges in order."""
        probes = [
            self.probe(sender, "tcp", to, port, {**options, "source_port": source}, number)
            for number, source in enumerate(ports, 1)
        ]
        return self.send_probes(probes)

    def probe(
        self, sender: str, protocol: str, to: object, port: int, options: dict[str, Any], number: int = 1
    ) -> Probe:
        """A probe to this, named after where it goes; `number`: its place among those that are sent with it."""
        where = self.destination(to, port)
        named = {"name": f"{sender} to {where.label} #{len(self.flows) + number}", **options}
        return Probe(sender, where.address, where.port, protocol, **named)  # type: ignore[arg-type]

    def send_probes(self, probes: Sequence[Probe], *, keep: bool = True, inquire: bool = True) -> list[Sent]:
        """These probes, several under way at once, and their flows in the same order.

        `inquire`: have the kernels asked at once why a flow was not answered.
        """
        if self.foreteller is not None:
            self.foreteller.look()
        first = probes[0]
        what = first.name if len(probes) == 1 else f"{len(probes)} probes from {first.sender}"
        self.note(what)
        since = self.observer.mark()
        results, barred = self._sent(probes)
        self.observer.quiesce()
        evidence = self.observer.evidence(since)
        keys = [probe_key(result) for result in results]
        found = flows(evidence, keys, switches=self.switches())
        if barred:
            found = tuple(
                unsent(flow, result) if number in barred else flow
                for number, (flow, result) in enumerate(zip(found, results, strict=True))
            )
        if self.foreteller is not None:
            left = [number for number in range(len(probes)) if number not in barred]
            self.foreteller.compare(
                [probes[number] for number in left],
                [results[number] for number in left],
                [found[number] for number in left],
            )
        if inquire and self.inquiry is not None:
            self.inquiry.look(found, evidence, self.namespaces)
        self.latest = found
        if keep:
            self.flows += found
        return [
            Sent(partial(self.keep_about, flow), flow, result, self.why)
            for flow, result in zip(found, results, strict=True)
        ]

    def _sent(self, probes: Sequence[Probe]) -> tuple[list[ProbeResult], Collection[int]]:
        """Send what has a way to leave by: the results, and the numbers of the probes that have none."""
        try:
            return self.prober.send_many(probes, window=WINDOW), ()
        except Unreachable:
            # Nothing was sent.  Finding out that nobody answers takes a second: each way is tried once.
            tried: dict[tuple[str, ...], str] = {}
            results: dict[int, ProbeResult] = {}
            for number, probe in enumerate(probes):
                way = (probe.sender, probe.destination, probe.next_hop, probe.source_address, probe.interface)
                if way not in tried:
                    tried[way] = self.prober.why_not(probe)
                if tried[way]:
                    results[number] = self.prober.not_sent(probe, tried[way])
        left = [number for number in range(len(probes)) if number not in results]
        barred = frozenset(results)
        for number, result in zip(left, self.prober.send_many([probes[n] for n in left], window=WINDOW), strict=True):
            results[number] = result
        return [results[number] for number in range(len(probes))], barred

    def why(self, flow: Flow) -> tuple[Reason, ...]:
        """Why a flow did not end as it should, the likeliest reason first; () when nothing is wrong with it."""
        if self.inquiry is None:
            return flow.reasons
        return self.inquiry.why(flow, self.observer.evidence(), self.namespaces)

    def why_together(self) -> tuple[Reason, ...]:
        """What is wrong with the flows that were sent last as a whole; () when nothing is."""
        return self.inquiry.together(self.latest, self._rules(), self.namespaces) if self.inquiry else ()

    def _rules(self) -> Mapping[RuleId, RuleText]:
        """Every rule that traces met, and those loaded beside them."""
        return self.observer.evidence(self.observer.mark()).rules

    def switches(self) -> Collection[str]:
        """Names of the namespaces that only bridge."""
        return {name for name, ns in self.namespaces.items() if ns.role == "switch"}


def entry_node(flow: Flow) -> str:
    """The namespace that the balancer handed the flow to, '' when it handed it to nobody.

    A balancer that ends connections hands it on in one of its own.
    """
    leg = next((leg for leg in reversed(flow.legs) if leg.flow.sender == "lb"), None)
    nodes = [hop.node for hop in (leg.flow if leg else flow).forward]
    after = nodes[nodes.index("lb") + 1 :] if "lb" in nodes else []
    return after[0] if after else ""


def probe_key(result: ProbeResult) -> ProbeKey:
    """By what the packets of a sent probe are recognized."""
    return ProbeKey(
        result.name,
        result.protocol,
        result.sender,
        result.sent,
        result.isn if result.protocol == "tcp" else None,
        result.token.encode(),
        result.started_ns,
        result.ended_ns,
        result.delivered,
    )


def unsent(flow: Flow, result: ProbeResult) -> Flow:
    """The flow of a probe that had no way to leave by."""
    return replace(flow, unsent=result.sent, reason=result.reason)


def target(namespace: Namespace) -> Target:
    """What is watched in a namespace: rules and connection tracking where it forwards or balances."""
    tracked = namespace.role in ("node", "balancer", "router")
    return Target(namespace, trace=tracked, conntrack=tracked)
