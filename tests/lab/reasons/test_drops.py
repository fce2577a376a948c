"""A pod's own rules are not traced: what they take is left open, unless the kernel's own word for it can be read."""

from __future__ import annotations

import os

import pytest

from hoplab.scenario.faults import Where
from tests.lab.reasons.faultlab import in_lab

pytestmark = pytest.mark.lab

RULES = """table inet mine {
\tchain in {
\t\ttype filter hook input priority 0
\t\ttcp dport 80 drop
\t}
}
"""


def test_what_a_pod_drops_itself(tmp_path):
    where = Where()

    def play(lab):
        lab.pod(where.pod).namespace.run(["nft", "-f", "-"], RULES)
        asker, to = lab.host(f"pod/{where.asker}"), lab.service(where.service).at_cluster_ip()
        with lab.beyond_the_model():
            return [asker.send_tcp(to, deadline_s=0.3).reasons[0] for _ in range(2)]

    first, second = in_lab(where, tmp_path, play)
    # Nobody listens to the kernel's words before something failed.
    assert (first.cause, first.node, first.decided) == ("unknown", "pod/shop-1", False)
    assert "own rules" in first.words
    assert "nft list ruleset" in first.experiment
    if os.geteuid() == 0:
        assert (second.cause, second.node, second.decided) == ("rule", "pod/shop-1", True)
        assert any("NETFILTER_DROP" in line for line in second.evidence)
    else:
        assert second.cause == "unknown"
