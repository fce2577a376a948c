"""Faults to put into a running lab: what breaks, what a user notices, and how it is taken back.

Each fault is what goes wrong in real clusters, done to the kernels of the lab by the
tools that would do it there.  A lesson injects one and lets a student look for it; the
tests inject each and hold that the reasons name its cause, its node and its object.
`kinds` says what a fault is; `network`, `rules` and `workloads` hold them.
"""

from hoplab.scenario.faults import network, rules, workloads
from hoplab.scenario.faults.kinds import Fault, Injected, Truth, Where, manifest

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*network.FAULTS, *rules.FAULTS, *workloads.FAULTS)}
"""By name."""

__all__ = ["FAULTS", "Fault", "Injected", "Truth", "Where", "manifest"]
