"""The JSON of one run, as other programs rely on it (docs/story.md lists the fields)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from hoplab.hops.evidence import ConntrackEvent, Loss, Tuple
from hoplab.hops.findings import Check
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, Hop, Leg, Passage, RuleHit
from hoplab.report.annotate import decisive, object_behind
from hoplab.report.run import Explain, RunReport, Topology, explain_nothing
from hoplab.report.spread import Spread

Document = dict[str, Any]


def to_json(run: RunReport, *, indent: int | None = 1, explain: Explain = explain_nothing) -> str:
    """One document, ASCII only: whatever acts on terminals is escaped."""
    return json.dumps(to_document(run, explain), indent=indent)


def to_document(run: RunReport, explain: Explain = explain_nothing) -> Document:
    """The run as plain dicts and lists."""
    return {
        "version": run.version,
        "scenario": run.scenario,
        "passed": run.passed,
        "seed": run.seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started_at)) if run.started_at else "",
        "options": dict(run.options),
        "timings_s": {phase: round(seconds, 6) for phase, seconds in run.timings_s.items()},
        "checks": [_check(check) for check in run.checks],
        "flows": [_flow(flow, explain) for flow in run.flows],
        "spread": [_spread(spread) for spread in run.spread],
        "topology": _topology(run.topology),
        "artifacts": dict(run.artifacts),
        "losses": [_loss(loss) for loss in run.losses],
        "problems": list(run.problems),
        "reasons": [_reason(reason) for reason in run.reasons],
    }


def _check(check: Check) -> Document:
    return {
        "name": check.name,
        "passed": check.passed,
        "expected": check.expected,
        "observed": check.observed,
        "evidence": list(check.evidence),
        "reasons": [_reason(reason) for reason in check.reasons],
    }


def _flow(flow: Flow, explain: Explain) -> Document:
    return {
        "name": flow.name,
        "outcome": flow.outcome,
        "protocol": flow.protocol,
        "forward": [hop_document(hop, explain) for hop in flow.forward],
        "reply": [hop_document(hop, explain) for hop in flow.reply],
        "conntrack": [_entry(entry) for entry in flow.conntrack],
        "reason": flow.reason,
        "response": flow.response,
        "sender": flow.sender,
        "passages": [_passage(passage) for passage in flow.passages],
        "reasons": [_reason(reason) for reason in flow.reasons],
        "legs": [_leg(leg, explain) for leg in flow.legs],
        "beyond": flow.beyond,
    }


def _leg(leg: Leg, explain: Explain) -> Document:
    """The fields of a flow, and what makes it a leg of another one."""
    told = {
        "leg": leg.number,
        "joined_by": list(leg.joined_by),
        "carried": leg.carried,
        "reused": leg.reused,
        "proxy_header": leg.proxy_header,
        "forwarded": list(leg.forwarded),
    }
    flow = {key: value for key, value in _flow(leg.flow, explain).items() if key not in ("legs", "beyond")}
    return told | flow


def _reason(reason: Reason) -> Document:
    return {**asdict(reason), "evidence": list(reason.evidence)}


def hop_document(hop: Hop, explain: Explain = explain_nothing) -> Document:
    """One hop; a rule that decided says what it `does`, and which `object` is behind it."""
    does = {id(hit): what for what, hit in decisive(hop)}
    return {
        "node": hop.node,
        "in": hop.in_interface,
        "out": hop.out_interface,
        "before": _tuple(hop.before),
        "after": _tuple(hop.after),
        "ttl_in": hop.ttl_in,
        "ttl_out": hop.ttl_out,
        "rewrite": list(hop.rewrite),
        "rules": [
            _rule(hit, does.get(id(hit), ""), object_behind(hop, hit, explain) if id(hit) in does else "")
            for hit in hop.rules
        ],
        "frames": list(hop.frames),
        "time_ns": hop.time_ns,
        "mac_in": list(hop.mac_in) if hop.mac_in else None,
        "mac_out": list(hop.mac_out) if hop.mac_out else None,
        "tunnel": hop.tunnel,
        "path": list(hop.path),
        "switches": list(hop.switches),
    }


def _tuple(tuple_: Tuple) -> Document:
    return {"src": tuple_.src, "sport": tuple_.sport, "dst": tuple_.dst, "dport": tuple_.dport}


def _rule(hit: RuleHit, does: str, behind: str) -> Document:
    return {
        "table": hit.table,
        "chain": hit.chain,
        "rule": hit.rule,
        "verdict": hit.verdict,
        "hook": hit.hook,
        "family": hit.family,
        "comment": hit.comment,
        "does": does,
        "object": behind,
    }


def _entry(entry: ConntrackEvent) -> Document:
    return {
        "node": entry.node,
        "original": _tuple(entry.original),
        "reply": _tuple(entry.reply),
        "protocol": entry.protocol,
        "state": entry.tcp_state,
        "status": entry.status,
        "mark": entry.mark,
        "zone": entry.zone,
    }


def _passage(passage: Passage) -> Document:
    """One packet in short; the hops of the first two are told in full as forward and reply."""
    return {
        "label": passage.label,
        "reply": passage.reply,
        "retransmission": passage.retransmission,
        "nodes": [hop.node for hop in passage.hops],
        "frames": sorted(number for hop in passage.hops for number in hop.frames),
        "time_ns": passage.hops[0].time_ns if passage.hops else 0,
    }


def _spread(spread: Spread) -> Document:
    return {
        "title": spread.title,
        "flows": spread.flows,
        "entered": dict(spread.entered),
        "answered": dict(spread.answered),
        "outcomes": dict(spread.outcomes),
    }


def _topology(topology: Topology) -> Document:
    return {
        "places": [
            {"name": place.name, "role": place.role, "host": place.host, "addresses": list(place.addresses)}
            for place in topology.places
        ],
        "links": [list(link) for link in topology.links],
    }


def _loss(loss: Loss) -> Document:
    return {"node": loss.node, "source": loss.source, "lost": loss.lost, "reason": loss.reason}
