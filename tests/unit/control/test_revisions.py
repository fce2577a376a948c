"""ControllerRevisions: what `kubectl rollout history` and `undo` of DaemonSets and StatefulSets are made of."""

from __future__ import annotations

from typing import Any

import pytest

from hoplab.control.pods import controller_of
from hoplab.control.revisions import HASH, LABELS
from hoplab.kube.deletion import delete
from hoplab.kube.objects import KubeObject
from tests.unit.control.imaginary_cluster import Imaginary, workload

KINDS = ["DaemonSet", "StatefulSet"]


def history(cluster: Imaginary) -> list[tuple[int, str]]:
    """Number and image of each revision, by number."""
    return sorted((each.document["revision"], image(each)) for each in cluster.store.each("ControllerRevision"))


def image(revision: KubeObject) -> str:
    containers = revision.document["data"]["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def rolled(kind: str, *images: str, **spec: Any) -> Imaginary:
    cluster = Imaginary()
    for each in images:
        cluster.apply(workload(kind, each, **spec))
        cluster.settle()
    return cluster


@pytest.mark.parametrize("kind", KINDS)
def test_each_template_is_kept_under_a_number(kind: str) -> None:
    cluster = rolled(kind, "nginx:1", "nginx:2", "nginx:3")
    assert history(cluster) == [(1, "nginx:1"), (2, "nginx:2"), (3, "nginx:3")]
    newest = next(each for each in cluster.store.each("ControllerRevision") if each.document["revision"] == 3)
    assert newest.document["data"]["spec"]["template"]["$patch"] == "replace"
    assert newest.meta.name == f"web-{newest.meta.labels[LABELS[kind]]}"
    pods = {pod.meta.labels[HASH] for pod in cluster.pods()}
    assert pods == {newest.meta.labels[HASH] if kind == "DaemonSet" else newest.meta.name}
    owner = controller_of(newest)
    assert owner is not None
    assert owner["uid"] == cluster.get(kind).meta.uid


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_comes_back_gets_the_next_number(kind: str) -> None:
    cluster = rolled(kind, "nginx:1", "nginx:2", "nginx:1")
    assert history(cluster) == [(2, "nginx:2"), (3, "nginx:1")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_something_else_is_no_revision(kind: str) -> None:
    cluster = rolled(kind, "nginx:1")
    cluster.apply(workload(kind, "nginx:1", minReadySeconds=1))
    cluster.later(2)
    assert history(cluster) == [(1, "nginx:1")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("limit", "kept"), [(0, [4]), (1, [3, 4]), (2, [2, 3, 4])])
def test_no_more_old_ones_are_kept_than_the_set_wants(kind: str, limit: int, kept: list[int]) -> None:
    cluster = rolled(kind, *(f"nginx:{number}" for number in range(1, 5)), revisionHistoryLimit=limit)
    assert [number for number, _image in history(cluster)] == kept


@pytest.mark.parametrize("kind", KINDS)
def test_a_revision_that_a_pod_still_has_is_kept_whatever_the_limit(kind: str) -> None:
    cluster = rolled(kind, "nginx:1", revisionHistoryLimit=0, updateStrategy={"type": "OnDelete"})
    cluster.apply(workload(kind, "nginx:2", revisionHistoryLimit=0, updateStrategy={"type": "OnDelete"}))
    cluster.settle()
    assert history(cluster) == [(1, "nginx:1"), (2, "nginx:2")]


@pytest.mark.parametrize("kind", KINDS)
def test_revisions_go_with_their_set_unless_they_are_orphaned_and_then_the_next_set_has_them(kind: str) -> None:
    cluster = rolled(kind, "nginx:1", "nginx:2")
    cluster.delete(kind, "web", propagation="Orphan")
    cluster.settle()
    assert [controller_of(each) for each in cluster.store.each("ControllerRevision")] == [None, None]
    cluster.apply(workload(kind, "nginx:1"))
    cluster.settle()
    assert history(cluster) == [(2, "nginx:2"), (3, "nginx:1")]
    delete(cluster.store, kind, "web", now=cluster.now, propagation="Background")
    cluster.settle()
    assert not cluster.store.each("ControllerRevision")


def test_a_change_cause_is_the_one_that_the_set_had_when_the_template_came() -> None:
    cluster = Imaginary()
    cause = {"kubernetes.io/change-cause": "first"}
    cluster.apply(workload("DaemonSet", "nginx:1").relabelled(annotations=cause))
    cluster.settle()
    (revision,) = cluster.store.each("ControllerRevision")
    assert revision.meta.annotations == cause
