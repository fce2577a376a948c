"""JUnit XML of runs: a suite is a scenario, a case is a check.

The format has no standard; this is the part that Jenkins, GitLab and GitHub's
reporters agree on: testsuites, testsuite, testcase, failure, error, system-out.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

from hoplab.hops.findings import Check
from hoplab.report.run import RunReport
from hoplab.report.visible import visible
from hoplab.report.why import reason_lines


def to_junit(runs: Sequence[RunReport]) -> bytes:
    """One document for all runs.  Characters that XML 1.0 cannot hold appear as escapes."""
    root = ET.Element("testsuites", name="hoplab")
    suites = [_suite(run) for run in runs]
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.set("time", f"{sum(run.timings_s.get('total', 0.0) for run in runs):.3f}")
    root.extend(suites)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _suite(run: RunReport) -> ET.Element:
    failed = sum(not check.passed for check in run.checks)
    # A run that did not pass although all its checks hold (none was made, say) must not look well.
    broken = not run.passed and not failed
    suite = ET.Element(
        "testsuite",
        name=visible(run.scenario),
        tests=str(len(run.checks) + broken),
        failures=str(failed),
        errors=str(int(broken)),
        skipped="0",
        time=f"{run.timings_s.get('total', 0.0):.3f}",
    )
    if run.started_at:
        suite.set("timestamp", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(run.started_at)))
    properties = ET.SubElement(suite, "properties")
    for name, value in (("seed", str(run.seed)), *((f"artifact.{k}", v) for k, v in run.artifacts.items())):
        ET.SubElement(properties, "property", name=visible(name), value=visible(value))
    for name, check in zip(_names(run.checks), run.checks, strict=True):
        suite.append(_case(name, run, check))
    if broken:
        why = "the run did not pass, and no check says why"
        case = ET.SubElement(suite, "testcase", name="run", classname=visible(run.scenario), time=_NO_TIME)
        ET.SubElement(case, "error", message=why, type="no verdict").text = "\n".join(
            [why, *map(visible, run.problems)]
        )
    notes = [f"{loss.node}: {loss.lost} {loss.source} events lost {loss.reason}".rstrip() for loss in run.losses]
    notes += run.problems
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(map(visible, notes))
    return suite


_NO_TIME = "0.000"
"""A check is made of what a run saw and has no time of its own; some viewers take one that is missing for NaN."""


def _names(checks: Sequence[Check]) -> list[str]:
    """A name for each: of cases that are called alike, GitLab shows the first one alone."""
    met: Counter[str] = Counter()
    names = []
    for check in checks:
        name = visible(check.name)
        met[name] += 1
        names.append(name if met[name] == 1 else f"{name} ({met[name]})")
    return names


def _case(name: str, run: RunReport, check: Check) -> ET.Element:
    case = ET.Element("testcase", name=name, classname=visible(run.scenario), time=_NO_TIME)
    if not check.passed:
        lines = [f"expected: {check.expected}", f"observed: {check.observed}"]
        lines += [f"evidence: {one}" for one in check.evidence]
        lines += [line for reason in check.reasons for line in reason_lines(reason)]
        why = f"; {check.reasons[0].cause} in {check.reasons[0].node}" if check.reasons else ""
        message = visible(f"expected {check.expected}; observed {check.observed}{why}")
        kind = check.reasons[0].cause if check.reasons else "check"
        ET.SubElement(case, "failure", message=message, type=kind).text = "\n".join(map(visible, lines))
    return case
