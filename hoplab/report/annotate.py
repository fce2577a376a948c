"""What each frame and each rule has to do with the story, for whoever shows frames or rules.

Of all rules that a packet meets, a few decide: the ones that rewrite, refuse or drop.
These stand in the story; the rest can be asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from hoplab.hops.decisive import Explain, decides, decisive, explain_nothing, object_behind
from hoplab.hops.evidence import Frame
from hoplab.hops.story import Flow, Hop
from hoplab.report.run import RunReport

__all__ = ["decides", "decisive", "frame_comments", "object_behind", "section_comments"]

MOST_FLOWS = 50
"""Flows that the section's comments list: they are for a reader, the frames have the rest."""


def frame_comments(
    flows: Sequence[Flow], frames: Iterable[Frame], explain: Explain = explain_nothing
) -> dict[int, tuple[str, ...]]:
    """For each frame of a flow: which flow, packet and hop it belongs to, and what had been done to it by then.

    Where a flow did not end as it should, the frame that shows it last says why.  Flows count from 1, so
    Wireshark's filter is `frame.comment contains "flow 3:"`; `hop 2 of 5 back` is on the way to the sender.
    """
    leaving = {frame.number for frame in frames if frame.direction == "out"}
    comments: defaultdict[int, list[str]] = defaultdict(list)
    every = [(f"flow {n}", flow) for n, flow in enumerate(flows, 1)]
    every += [(f"flow {n}, leg {leg.number}", leg.flow) for n, flow in enumerate(flows, 1) for leg in flow.legs]
    for what, flow in every:
        for passage in flow.passages:
            again = " (again)" if passage.retransmission else ""
            back = " back" if passage.reply else ""
            for place, hop in enumerate(passage.hops, 1):
                where = f"{passage.label}{again}, hop {place} of {len(passage.hops)}{back}: {hop.node}"
                done = _done(hop, explain)
                for frame in hop.frames:
                    comments[frame].append(f"{what}: {where}")
                    if frame in leaving:
                        comments[frame] += [f"{what}: {one}" for one in done]
                if hop.out_interface is None and hop.frames:
                    refused = [one for one in done if one.startswith(("drop", "reject"))]
                    comments[hop.frames[-1]] += [f"{what}: {one}" for one in refused]
        for reason in flow.reasons:
            number = reason.frame or _last_frame(flow)
            if number:
                comments[number].append(f"{what}: why: {reason.cause} in {reason.node}: {reason.words}")
    return {frame: tuple(dict.fromkeys(texts)) for frame, texts in comments.items()}


def _last_frame(flow: Flow) -> int:
    """The last frame of the way there; 0 when no frame was seen."""
    return next((hop.frames[-1] for hop in reversed(flow.forward) if hop.frames), 0)


def section_comments(kind: str, run: RunReport, frames: int) -> tuple[str, ...]:
    """What the whole file is: the run and its verdict, each told flow, each check that does not hold, each reason.

    `frames` is how many the observer took, so that a reader can hold the file against it.
    """
    held = sum(check.passed for check in run.checks)
    verdict = "passed" if run.passed else "failed"
    title = f"hoplab {kind} {run.scenario}: {verdict}, {held} of {len(run.checks)} checks hold, seed {run.seed}"
    lost = sum(loss.lost for loss in run.losses if loss.source == "frames")
    told = [f"{title}; {frames} frames seen" + (f", {lost} lost" if lost else "")]
    for number, flow in enumerate(run.flows[:MOST_FLOWS], 1):
        told.append(f"flow {number}: {flow.name}: {flow.protocol}, {flow.outcome}")
        told += [f"flow {number}: why: {one.cause} in {one.node}: {one.words}" for one in flow.reasons]
    told += [f"failed: {c.name}: expected {c.expected}, observed {c.observed}" for c in run.checks if not c.passed]
    return tuple(told)


def _done(hop: Hop, explain: Explain) -> list[str]:
    """'DNAT by KUBE-SEP-... for default/service-b', for each rule that decided; what no rule explains is told bare."""
    told = []
    for what, hit in decisive(hop):
        behind = object_behind(hop, hit, explain)
        told.append(f"{what} by {hit.chain}" + (f" for {behind}" if behind else ""))
    kinds = {what for what, _hit in decisive(hop)}
    if "DNAT" in hop.rewrite and not kinds & {"DNAT", "redirect"}:
        told.append("destination rewritten (connection tracking)")
    if "SNAT" in hop.rewrite and not kinds & {"SNAT", "masquerade"}:
        told.append("source rewritten (connection tracking)")
    return told
