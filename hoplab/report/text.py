"""The story of a run for a terminal: hop by hop, there and back, then the checks.

Read from the left: who had the packet, by which interfaces, at what time; below it
only what changed there and the rule that changed it.  Flows that went the same way
are told once.  80 columns are enough; colours carry nothing that words don't say.
All text of unknown origin goes through `visible`, and nothing is ever read as markup.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from hoplab.hops.evidence import Tuple
from hoplab.hops.findings import Check
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.hops.words import endpoint, rule_words
from hoplab.report.annotate import decisive, object_behind
from hoplab.report.run import Explain, RunReport, explain_nothing
from hoplab.report.visible import visible
from hoplab.report.why import by_reason

Verbosity = Literal[-1, 0, 1]
"""-1: one line.  0: the story.  1: every flow in full, and every rule met."""

WIDTH = 80
LONGEST = 200
"""Characters of any one name or text from outside; its middle is left out beyond."""
EVIDENCE = 6
"""Lines of a check's evidence that are told without -v: both paths of a flow that went another way are dozens."""

_OUTCOME_STYLE = {"accepted": "green", "rejected": "yellow", "dropped": "red", "unanswered": "red"}
_CHANGED, _QUIET, _NAME = "bold yellow", "dim", "bold cyan"


def print_story(
    run: RunReport, console: Console, *, verbosity: Verbosity = 0, explain: Explain = explain_nothing
) -> None:
    """Print a run to a terminal, or wherever the console leads."""
    told = _one_line(run) if verbosity < 0 else _story(run, verbosity, explain)
    # At once: asking a terminal for its size costs more than a line does.
    console.print(Group(*(_Line(part) if isinstance(part, Text) else part for part in told)), highlight=False)


def story_text(
    run: RunReport, *, explain: Explain = explain_nothing, verbosity: Verbosity = 1, width: int = WIDTH
) -> str:
    """The story as plain text, as it is left beside the capture."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    print_story(run, console, verbosity=verbosity, explain=explain)
    return out.getvalue()


def _one_line(run: RunReport) -> Iterator[RenderableType]:
    failed = [check for check in run.checks if not check.passed]
    total = run.timings_s.get("total")
    took = f", {total:.2f} s" if total is not None else ""
    line = Text(visible(run.scenario, LONGEST), style=_NAME)
    if run.passed:
        line.append(": passed", "bold green")
        line.append(f" ({_count(len(run.checks), 'check')}, {_count(len(run.flows), 'flow')}{took})")
    else:
        line.append(": FAILED", "bold red")
        names = "; ".join(visible(f"{check.name}: {check.observed}", LONGEST) for check in failed[:1])
        line.append(f" ({len(failed)} of {_count(len(run.checks), 'check')}{took}) {names}".rstrip())
        causes = [reason for reason, _flows in by_reason(run.flows)] + list(run.reasons)
        if causes:
            line.append(f"; why: {visible(f'{causes[0].cause} in {causes[0].node}', LONGEST)}")
    yield line


def _story(run: RunReport, verbosity: int, explain: Explain) -> Iterator[RenderableType]:
    yield Text.assemble((visible(run.scenario, LONGEST), _NAME), (f"  seed {run.seed}", _QUIET))
    for number, flow, like in _told_once(run.flows, everything=verbosity > 0):
        yield Text("")
        if like:
            yield _head(number, flow)
            yield line_of(2, Text(f"the same way as flow {like}", _QUIET))
        else:
            yield from _flow(number, flow, verbosity, explain)
    yield from _spreads(run)
    yield from _checks(run, verbosity)
    yield from _summary(run)
    yield from _run(run)


def _summary(run: RunReport) -> Iterator[RenderableType]:
    """Why it failed, each reason once; with the flow that tells it in full, or here if many flows show it together."""
    met = by_reason(run.flows)
    if not met and not run.reasons:
        return
    yield Text("")
    yield Text("Why", "bold")
    for reason, flows in met:
        numbers = [number for number, flow in enumerate(run.flows, 1) if flow in flows]
        told = Text.assemble((reason.cause, "bold red"), " in ", (visible(reason.node, LONGEST), _NAME))
        told.append(f": {visible(reason.words, 4 * LONGEST)}")
        told.append(f"  (flow{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))})", _QUIET)
        yield line_of(2, told)
    for reason in run.reasons:
        yield from _why(reason)


def _told_once(flows: Sequence[Flow], *, everything: bool) -> Iterator[tuple[int, Flow, int]]:
    """Flows with their number, and the number of an earlier one that went the same way (0 for none)."""
    ways: dict[object, int] = {}
    for number, flow in enumerate(flows, 1):
        way = [(one.outcome, one.reason, *_ways(one)) for one in (flow, *(leg.flow for leg in flow.legs))]
        like = ways.setdefault((flow.beyond, *way), number)
        yield number, flow, 0 if everything or like == number else like


def _ways(flow: Flow) -> Iterator[object]:
    for hops in (flow.forward, flow.reply):
        yield from ((h.node, h.in_interface, h.out_interface, h.rewrite) for h in hops)
        yield "back"


def _head(number: int, flow: Flow) -> Text:
    head = Text.assemble((f"Flow {number}  ", _QUIET), (visible(flow.name, LONGEST), "bold"), f"  {flow.protocol}  ")
    head.append(flow.outcome, f"bold {_OUTCOME_STYLE[flow.outcome]}")
    return head


def _flow(number: int, flow: Flow, verbosity: int, explain: Explain) -> Iterator[RenderableType]:
    yield _head(number, flow)
    yield from _told(flow, verbosity, explain)
    for leg in flow.legs:
        head = Text.assemble((f"leg {leg.number}  ", "bold"), (visible(leg.flow.sender, LONGEST), _NAME))
        head.append(" goes on in a connection of its own" if not leg.reused else " goes on in a connection it has kept")
        head.append("  ").append(leg.flow.outcome, f"bold {_OUTCOME_STYLE[leg.flow.outcome]}")
        yield line_of(2, head)
        for words in (*leg.joined_by, *filter(None, [leg.proxy_header]), *leg.forwarded):
            yield line_of(4, Text(visible(words, 2 * LONGEST), "magenta"))
        yield from _told(leg.flow, verbosity, explain)
    if flow.beyond:
        yield line_of(2, Text(visible(flow.beyond, 2 * LONGEST), _QUIET))


def _told(flow: Flow, verbosity: int, explain: Explain) -> Iterator[RenderableType]:
    """One connection, or one exchange of datagrams: why it failed, its ways, its packets."""
    if flow.reason:
        yield line_of(2, Text(visible(flow.reason, 4 * LONGEST), _OUTCOME_STYLE[flow.outcome]))
    for reason in flow.reasons:
        yield from _why(reason)
    for title, hops in (("there", flow.forward), ("back", flow.reply)):
        if hops:
            yield line_of(2, Text(title, "underline"))
            previous = hops[0].time_ns
            for place, hop in enumerate(hops):
                yield from _hop(hop, hop.time_ns - previous, place in (0, len(hops) - 1), verbosity, explain)
                previous = hop.time_ns
    others = [("←" if p.reply else "→") + p.label + ("(again)" if p.retransmission else "") for p in flow.passages]
    if len(others) > bool(flow.forward) + bool(flow.reply):
        yield line_of(2, Text("all packets  " + " ".join(others), _QUIET))
    if verbosity > 0:
        for entry in flow.conntrack:
            told = f"conntrack {entry.node}: {_tuple(entry.original)}, answer as {_tuple(entry.reply)}"
            yield line_of(2, Text(visible(f"{told} {entry.tcp_state}".rstrip(), 2 * LONGEST), _QUIET))
        if flow.response:
            yield line_of(2, Text(f"answer  {visible(flow.response, 2 * LONGEST)}", _QUIET))


def _why(reason: Reason) -> Iterator[RenderableType]:
    """The reason first, then what proves it and what to do."""
    told = Text.assemble(("why  ", _QUIET), (reason.cause, "bold red"), " in ", (visible(reason.node, LONGEST), _NAME))
    yield line_of(2, told.append(f": {visible(reason.words, 4 * LONGEST)}"))
    about = [("about", reason.object), ("last seen", reason.last_seen)]
    about += [("evidence", one) for one in reason.evidence]
    about += [("next", reason.next_step)] if reason.next_step != reason.experiment else []
    about += [("to tell", reason.experiment)]
    for what, words in about:
        if words:
            yield line_of(7, Text.assemble((f"{what:<9}  ", _QUIET), visible(words, 4 * LONGEST)))


def _hop(hop: Hop, since_ns: int, whole: bool, verbosity: int, explain: Explain) -> Iterator[RenderableType]:
    line = Text.assemble((visible(hop.node, LONGEST), _NAME), "  ", visible(_interfaces(hop), LONGEST))
    ttl = _ttl(hop)
    line.append(f"  {ttl}" if ttl else "")
    if since_ns > 0:
        line.append(f"  +{_duration(since_ns)}", _QUIET)
    yield line_of(4, line)
    if hop.tunnel:
        yield line_of(8, Text(f"tunnel       {visible(hop.tunnel).replace('->', '→')}", "magenta"))
    if whole and hop.before == hop.after:
        yield line_of(8, Text(_tuple(hop.before)))
    before, after = hop.before, hop.after
    for what, old, new in (
        ("destination", (before.dst, before.dport), (after.dst, after.dport)),
        ("source", (before.src, before.sport), (after.src, after.sport)),
    ):
        if old != new:
            told = Text.assemble(f"{what:<11}  {endpoint(*old)} → ", (endpoint(*new), _CHANGED))
            yield line_of(8, told)
    for done, hit in decisive(hop):
        yield line_of(10, _decision(hop, done, hit, explain))
    if verbosity > 0:
        for hit in hop.rules:
            yield line_of(10, _every_rule(hit))
        for one in hop.conntrack:
            yield line_of(
                10, Text(visible(f"conntrack: an answer comes as {_tuple(one.reply)} {one.tcp_state}".rstrip()), _QUIET)
            )


def _decision(hop: Hop, done: str, hit: RuleHit, explain: Explain) -> Text:
    style = "bold red" if done in ("drop", "reject") else "yellow"
    chain = f"{hit.table} {hit.chain}" + (" policy" if hit.rule == "policy" else "")
    told = Text.assemble((done, style), f" by {visible(chain, LONGEST)}")
    behind = object_behind(hop, hit, explain)
    if behind:
        told.append(f": {visible(behind, LONGEST)}")
    return told


def _every_rule(hit: RuleHit) -> Text:
    what = visible(rule_words(hit), 2 * LONGEST)
    verdict = "" if hit.rule == "policy" else f"  → {visible(hit.verdict, LONGEST)}"
    return Text.assemble((f"{hit.hook or '?':<11} ", _QUIET), what, (verdict, _QUIET))


def _spreads(run: RunReport) -> Iterator[RenderableType]:
    """Where equal flows went, as counts."""
    if not run.spread:
        return
    yield Text("")
    yield Text("Where equal flows went", "bold")
    for spread in run.spread:
        yield line_of(2, Text(f"{visible(spread.title, LONGEST)}: {_count(spread.flows, 'flow')}"))
        counted = (("came in by", spread.entered, "no node"), ("answered by", spread.answered, "nobody"))
        for what, counts, none in counted:
            told = ", ".join(f"{visible(name, LONGEST) or none} {number}" for name, number in counts.items())
            yield line_of(6, Text.assemble((f"{what:<11}  ", _QUIET), told))


def _checks(run: RunReport, verbosity: int) -> Iterator[RenderableType]:
    yield Text("")
    if not run.checks:
        yield Text("No check was made.", "bold red")
        return
    held = sum(check.passed for check in run.checks)
    title = "Checks: all hold" if held == len(run.checks) else f"Checks: {held} of {len(run.checks)} hold"
    yield Text(title, "bold")
    for check in run.checks:
        yield from _check(check, verbosity)


def _check(check: Check, verbosity: int) -> Iterator[RenderableType]:
    mark = ("✓ ", "bold green") if check.passed else ("✗ ", "bold red")
    yield line_of(2, Text.assemble(mark, visible(check.name, LONGEST)))
    if check.passed:
        return
    evidence = check.evidence if verbosity > 0 else check.evidence[:EVIDENCE]
    told = [("expected", check.expected), ("observed", check.observed), *(("evidence", e) for e in evidence)]
    if left := len(check.evidence) - len(evidence):
        told.append(("evidence", f"... and {_count(left, 'more line')} with -v"))
    told += [("why", words) for words in dict.fromkeys(f"{one.cause} in {one.node}" for one in check.reasons)]
    for what, words in told:
        style = "red" if what == "observed" else ""
        yield line_of(6, Text.assemble((f"{what}  ", _QUIET), (visible(words, 4 * LONGEST), style)))


def _run(run: RunReport) -> Iterator[RenderableType]:
    yield Text("")
    if run.timings_s:
        phases = (f"{phase} {seconds:.2f} s" for phase, seconds in run.timings_s.items())
        yield Text("times      " + ", ".join(phases), _QUIET)
    for kind, path in run.artifacts.items():
        yield Text(f"{visible(kind):<10} {visible(path)}", _QUIET)
    for loss in run.losses:
        told = f"lost       {loss.lost} {loss.source} events of {loss.node} {loss.reason}".rstrip()
        yield Text(visible(told, 2 * LONGEST), "yellow")
    for problem in run.problems:
        yield Text(visible(f"problem    {problem}", 4 * LONGEST), "yellow")
    yield from _one_line(run)


def _interfaces(hop: Hop) -> str:
    if hop.in_interface is None:
        return f"sends by {hop.out_interface}" if hop.out_interface else "(seen by rule traces only)"
    if hop.out_interface is None:
        return f"takes in by {hop.in_interface}"
    return f"{hop.in_interface} → {hop.out_interface}"


def _ttl(hop: Hop) -> str:
    if hop.ttl_in is not None and hop.ttl_out is not None:
        return f"TTL {hop.ttl_in} → {hop.ttl_out}"
    known = hop.ttl_in if hop.ttl_in is not None else hop.ttl_out
    return f"TTL {known}" if known is not None else ""


def _duration(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1000:.0f} µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.1f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_ASCII = str.maketrans({"→": ">", "←": "<", "✓": "+", "✗": "x", "µ": "u"})


class _Line:
    """One line of the story; what does not fit goes on below it, further to the right."""

    def __init__(self, text: Text, columns: int = 0) -> None:
        self._text, self._columns = text, columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self._text
        if options.ascii_only:
            text = text.copy()
            text.plain = self._text.plain.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        width = max(20, options.max_width - self._columns)
        if text.cell_len <= width:
            yield _after(self._columns, text)
            return
        first, *rest = text.wrap(console, width, overflow="fold") or [Text("")]
        yield _after(self._columns, first)
        if rest:
            # The rest has less room, so it is wrapped anew behind what the first line took.
            skipped = len(first) + len(text.plain[len(first) :]) - len(text.plain[len(first) :].lstrip())
            left = text[skipped:]
            for line in left.wrap(console, max(20, width - _HANGING), overflow="fold"):
                yield _after(self._columns + _HANGING, line)


_HANGING = 4


def _after(columns: int, text: Text) -> Text:
    line = Text(" " * columns, no_wrap=True, overflow="ignore")
    line.append_text(text)
    line.rstrip()
    return line


def line_of(columns: int, text: Text) -> RenderableType:
    """A line that begins at a column; what does not fit goes on below it, further to the right."""
    return _Line(text, columns)


def _tuple(tuple_: Tuple) -> str:
    return f"{endpoint(tuple_.src, tuple_.sport)} → {endpoint(tuple_.dst, tuple_.dport)}"
