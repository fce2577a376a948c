"""After any number of changes a lab is what a fresh one with the same objects is: rules, addresses, processes, files.

`HOPLAB_RANDOM_CHANGES=500 python3 lab.py test tests/lab/cluster/test_random_changes.py` makes as many as the name says;
without it there are fewer, to keep the suite short.
"""

from __future__ import annotations

import os

import pytest

from tests.lab.cluster.livelab import Live, in_lab
from tests.lab.cluster.random_changes import Changes, everything, final_objects, put_all

pytestmark = pytest.mark.lab
COUNT = int(os.environ.get("HOPLAB_RANDOM_CHANGES", "40"))


@pytest.mark.parametrize(("mode", "seed"), [("iptables", 1), ("nftables", 2)])
def test_after_many_changes_a_lab_is_as_a_fresh_one_with_the_same_objects(mode, seed):
    from hoplab.cluster.options import CLUSTER_CIDR
    from hoplab.dataplane.config import ProxyConfig

    proxy = ProxyConfig(mode=mode, cluster_cidrs=(CLUSTER_CIDR,))

    def changed(live: Live):
        live.cluster.follow()
        changes = Changes(live, seed)
        for _number in range(COUNT):
            changes.one()
            if changes.chance.random() < 0.3:
                live.settle()
            else:
                live.cluster.loop.poll(0.02)
        live.settle()
        assert live.cluster.warnings == []
        return changes.made, final_objects(live), everything(live)

    def fresh(live: Live, documents):
        put_all(live, documents)
        live.cluster.follow()
        live.settle()
        return everything(live)

    made, documents, there = in_lab(changed, proxy=proxy)
    here = in_lab(lambda live: fresh(live, documents), proxy=proxy)
    assert sum(made.values()) == COUNT
    assert min(made.values()) > COUNT / 10
    assert there.keys() == here.keys()
    for what, value in there.items():
        assert value == here[what], what
    assert len([name for name in there if name.startswith("pod/")]) >= 3
