"""After any number of changes a lab is what a fresh one with the same objects is: rules, addresses, processes, files.

Two labs are changed at the same time, each in another mode of kube-proxy and with changes of its own: equal
names and addresses in both, and what happens in one must not be seen in the other.
`HOPLAB_RANDOM_CHANGES=5000 python3 lab.py test tests/lab/cluster/test_random_changes.py` makes as many as it says.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.lab.cluster.livelab import Live, in_lab
from tests.lab.cluster.random_changes import LIMITS, Changes, everything, final_objects, put_all

pytestmark = pytest.mark.lab
COUNT = int(os.environ.get("HOPLAB_RANDOM_CHANGES", "500"))
LABS = (("iptables", 1), ("nftables", 2))


def test_after_many_changes_a_lab_is_as_a_fresh_one_with_the_same_objects():
    # A sandbox is made by a process with one thread alone.
    with ProcessPoolExecutor(len(LABS), mp_context=multiprocessing.get_context("fork")) as pool:
        results = list(pool.map(changed_and_fresh, *zip(*LABS, strict=True)))
    for (mode, _seed), (made, there, here) in zip(LABS, results, strict=True):
        assert sum(made.values()) == COUNT
        assert {kind for kind, _what in made} == LIMITS.keys(), "every kind was changed"
        for change in ("create", "change", "delete"):
            assert sum(count for (_kind, what), count in made.items() if what == change) > COUNT / 10
        assert there.keys() == here.keys(), mode
        for what, value in there.items():
            assert value == here[what], f"{what} ({mode})"
        assert len([name for name in there if name.startswith("pod/")]) >= 3


def changed_and_fresh(mode, seed):
    """What changes were made, the lab after them, and a fresh one with the same objects."""
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
    return made, there, here
