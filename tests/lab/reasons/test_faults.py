"""Every fault of the course, put into real labs one at a time and two at a time: the reason names what was done.

One lab serves many faults: inject, send, read the reason, undo, and send again, which
has to be answered.  A row of the table is right when the first reason has the true cause,
the true node and an object in which the true one is named, and when it is decided.
"""

from __future__ import annotations

import contextlib

import pytest

from hoplab.kube.types import Node
from hoplab.scenario.faults import FAULTS, Where
from tests.lab.reasons.faultlab import in_lab

pytestmark = pytest.mark.lab

COURSE = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20}
"""Numbers in the course's list of faults that are injected here (18 needs an Ingress)."""
NOT_ANSWERED_BEFORE = {"loop", "dead-endpoint"}
"""What these send is answered by nobody in a healthy lab, either: it goes to where there is nothing."""

OTHERS = Where(
    near="ada",
    far="bob",
    service="books",
    pod="library",
    local="books-local",
    many="papers",
    own="mirror",
    asker="reader",
    udp="names",
    by_hand="outside",
)
OTHER_NODES = (
    Node("ada", ("10.240.7.21",), pod_cidrs=("10.1.77.0/25",)),
    Node("bob", ("10.240.9.130",), pod_cidrs=("10.1.200.64/26",)),
)
LABS = {
    "iptables over routes": (Where(), {}),
    "nftables over VXLAN, other names and addresses": (
        OTHERS,
        {"fabric": "vxlan", "mode": "nftables", "given_nodes": OTHER_NODES},
    ),
}
PAIRS = [
    ("route-missing", "node-port-blocked"),
    ("forwarding-off", "bridge-netfilter-off"),
    ("forward-policy", "no-candidates"),
    ("dead-endpoint", "no-masquerade"),
    ("endpoint-rule-missing", "wrong-gateway"),
    ("hairpin-off", "per-packet-balancing"),
    ("reverse-path", "health-check-ignored"),
    ("wrong-target-port", "stale-conntrack"),
    ("mtu", "hairpin-off"),
    ("same-subnet", "egress-without-dns"),
    ("bound-to-localhost", "loaded-dice"),
]


def named(lab, injected):
    """(whether the reason is right, a row of the table)."""
    truth = injected.truth
    sent = truth.send()
    told = sent.reasons or lab.why_together()
    first = told[0] if told else None
    right = (
        first is not None
        and first.decided
        and (first.cause, first.node) == (truth.cause, truth.node)
        and all(word in first.object for word in truth.about)
        and bool(first.evidence)
        and bool(first.next_step)
    )
    found = f"{first.cause} in {first.node}: {first.object}" if first else f"nothing ({sent.flow.outcome})"
    done = f"{truth.cause} in {truth.node}: {', '.join(truth.about)}"
    return right, f"{injected.fault.name:<22} | {'right' if right else 'WRONG':<5} | {done} | {found}"


def healthy(lab, injected):
    """What is wrong with the lab after the fault was taken out again, '' for nothing."""
    if injected.fault.name in NOT_ANSWERED_BEFORE:
        return ""
    sent = injected.truth.send()
    if sent.flow.outcome == "accepted" and not sent.reasons and not lab.why_together():
        return ""
    return f"after {injected.fault.name} was undone: {sent.flow.outcome} {sent.flow.reason} {sent.reasons}"


def table(rows):
    return "\n".join(rows)


@pytest.mark.parametrize("name", LABS)
def test_each_fault_is_named(name, tmp_path):
    where, options = LABS[name]

    def play(lab):
        rows, wrong = [], []
        for fault in FAULTS.values():
            injected = fault.inject(lab, where)
            right, row = named(lab, injected)
            injected.undo()
            rows.append(row)
            wrong += [] if right else [row]
            wrong += [words] if (words := healthy(lab, injected)) else []
        return rows, wrong

    rows, wrong = in_lab(where, tmp_path, play, **options)
    print(table(rows))
    assert wrong == []
    assert len(rows) == len(FAULTS)


def test_two_at_a_time_each_is_named(tmp_path):
    where = Where()

    def play(lab):
        rows, wrong = [], []
        for pair in PAIRS:
            with contextlib.ExitStack() as stack:
                both = []
                for fault in pair:
                    both.append(FAULTS[fault].inject(lab, where))
                    stack.callback(both[-1].undo)
                for injected in both:
                    right, row = named(lab, injected)
                    rows.append(f"{' + '.join(pair)}: {row}")
                    wrong += [] if right else rows[-1:]
        return rows, wrong

    rows, wrong = in_lab(where, tmp_path, play)
    print(table(rows))
    assert wrong == []
    assert len(rows) == 2 * len(PAIRS)


def test_the_course_is_covered():
    assert {fault.number for fault in FAULTS.values()} >= COURSE
    assert all(fault.notice for fault in FAULTS.values())
    assert len(PAIRS) >= 10
