"""Which CNI plugins run at the same time: pods of one node in their order, and never too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hoplab.net.cni import AT_ONCE, Attachment, NetworkConfig, Work, turns
from hoplab.net.namespaces import Namespace

CONFIG = NetworkConfig("10-x.conflist", "x", "1.0.0", ({"type": "bridge"},))


def work(nodes: list[int]) -> list[Work]:
    """One attachment for each entry, on the node of that number."""
    return [
        (Attachment(Namespace(f"node{node}", 100 + node), CONFIG, f"pod/p{at}", f"{at}", ""), CONFIG.plugins[0])
        for at, node in enumerate(nodes)
    ]


@given(st.lists(st.integers(0, 20), max_size=60))
def test_every_pod_has_its_turn_and_those_of_a_node_come_one_after_the_other(nodes: list[int]) -> None:
    wanted = work(nodes)
    found = list(turns(wanted, one_a_node=True))
    told = [each[0].pod for some in found for each in some]
    assert sorted(told) == sorted(each[0].pod for each in wanted)
    assert all(0 < len(some) <= AT_ONCE for some in found)
    for some in found:
        assert len({each[0].node.pid for each in some}) == len(some)
    for node in set(nodes):
        mine = [each[0].pod for each in wanted if each[0].node.pid == 100 + node]
        assert [pod for pod in told if pod in mine] == mine


@given(st.lists(st.integers(0, 3), max_size=60))
def test_where_order_means_nothing_as_many_run_as_may(nodes: list[int]) -> None:
    wanted = work(nodes)
    found = list(turns(wanted, one_a_node=False))
    assert [each for some in found for each in some] == wanted
    assert all(len(some) == AT_ONCE for some in found[:-1])
