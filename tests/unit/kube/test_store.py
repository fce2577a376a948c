"""The object store: versions, conflicts, and a watch that misses nothing or says so."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.kube.labels import Selector
from hoplab.kube.load import load_document
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import AlreadyExists, Conflict, NotFound, Store, TooOld, resource_of


def config(name: str, value: str = "1", labels: dict[str, str] | None = None, **metadata: Any) -> KubeObject:
    meta = {"name": name, "labels": labels or {}, **metadata}
    return load_document({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": value}}, "test")


def new_store(history: int = 1000) -> Store:
    numbers = itertools.count(1)
    return Store(lambda: f"uid-{next(numbers)}", history)


def stamp(obj: KubeObject) -> tuple[str, str, int]:
    metadata = obj.document["metadata"]
    return metadata["resourceVersion"], metadata["uid"], metadata["generation"]


def test_create_get_update_delete() -> None:
    store = new_store()
    assert stamp(store.create(config("a"))) == ("1", "uid-1", 1)
    assert stamp(store.create(config("b"))) == ("2", "uid-2", 1)
    assert stamp(store.update(config("a", "2"))) == ("3", "uid-1", 2)
    assert store.get("ConfigMap", "a").document["data"] == {"a": "2"}
    assert store.get("ConfigMap", "a").meta.uid == "uid-1"
    assert store.delete("ConfigMap", "a").meta.name == "a"
    assert store.version == 4
    assert [obj.meta.name for obj in store.list("ConfigMap").objects] == ["b"]


def test_the_words_of_the_api() -> None:
    store = new_store()
    store.create(config("a"))
    with pytest.raises(AlreadyExists, match=r'^configmaps "a" already exists$'):
        store.create(config("a"))
    with pytest.raises(NotFound, match=r'^deployments\.apps "x" not found$'):
        store.get("Deployment", "x")
    with pytest.raises(NotFound, match=r'^configmaps "x" not found$'):
        store.update(config("x"))
    names = ("Endpoints", "EndpointSlice", "NetworkPolicy", "IngressClass", "Ingress")
    assert [resource_of(kind) for kind in names] == [
        "endpoints",
        "endpointslices.discovery.k8s.io",
        "networkpolicies.networking.k8s.io",
        "ingressclasses.networking.k8s.io",
        "ingresses.networking.k8s.io",
    ]


def test_who_writes_over_another_is_told() -> None:
    store = new_store()
    mine = store.create(config("a"))
    store.update(config("a", "theirs"))
    with pytest.raises(Conflict, match="the object has been modified; please apply your changes to the latest version"):
        store.update(replace(mine, document={**mine.document, "data": {"a": "mine"}}))
    with pytest.raises(Conflict, match="the object has been modified"):
        store.delete("ConfigMap", "a", resource_version="1")
    assert store.get("ConfigMap", "a").document["data"] == {"a": "theirs"}


def test_another_object_of_the_same_name_is_another() -> None:
    store = new_store()
    old = store.create(config("a"))
    store.delete("ConfigMap", "a")
    store.create(config("a"))
    with pytest.raises(Conflict, match="UID in precondition: uid-1, UID in object meta: uid-2"):
        store.delete("ConfigMap", "a", uid=old.meta.uid)


def test_an_update_that_changes_nothing_is_no_change() -> None:
    store = new_store()
    store.create(config("a"))
    assert stamp(store.update(config("a"))) == ("1", "uid-1", 1)
    assert store.version == 1


def test_labels_and_status_do_not_count_as_a_new_generation() -> None:
    store = new_store()
    store.create(config("a"))
    assert stamp(store.update(config("a", labels={"x": "y"}))) == ("2", "uid-1", 1)


def test_lists_by_namespace_and_label() -> None:
    store = new_store()
    store.create(config("b", labels={"app": "web"}))
    store.create(config("a", labels={"app": "web"}))
    store.create(config("a", namespace="other"))
    listing = store.list("ConfigMap", "default", Selector.parse("app=web"))
    assert [obj.meta.name for obj in listing.objects] == ["a", "b"]
    assert listing.version == 3
    assert len(store.list("ConfigMap").objects) == 3
    assert store.list("Secret").objects == ()


def told(store: Store, since: int, query: str = "") -> list[tuple[str, str, int]]:
    events = store.changes(since, "ConfigMap", "default", Selector.parse(query))
    return [(event.type, event.object.meta.name, event.version) for event in events]


def test_a_watch_tells_each_change_since() -> None:
    store = new_store()
    store.create(config("a"))
    store.update(config("a", "2"))
    store.create(config("a", namespace="other"))
    store.delete("ConfigMap", "a")
    assert told(store, 0) == [("ADDED", "a", 1), ("MODIFIED", "a", 2), ("DELETED", "a", 4)]
    assert told(store, 2) == [("DELETED", "a", 4)]
    assert told(store, 4) == []
    (last,) = store.changes(3, "ConfigMap")
    assert last.object.document["metadata"]["resourceVersion"] == "4"
    assert last.object.document["data"] == {"a": "2"}


def test_a_watch_by_label_sees_objects_come_and_go() -> None:
    store = new_store()
    store.create(config("a"))
    store.update(config("a", labels={"app": "web"}))
    store.update(config("a", "2", labels={"app": "web"}))
    store.update(config("a", "2"))
    store.delete("ConfigMap", "a")
    assert told(store, 0, "app=web") == [("ADDED", "a", 2), ("MODIFIED", "a", 3), ("DELETED", "a", 4)]


def test_who_comes_too_late_must_list_again() -> None:
    store = new_store(history=2)
    for number in range(4):
        store.create(config(f"a{number}"))
    with pytest.raises(TooOld, match=r"^too old resource version: 1 \(2\)$"):
        told(store, 1)
    assert told(store, 2) == [("ADDED", "a2", 3), ("ADDED", "a3", 4)]
    assert told(store, store.list("ConfigMap").version) == []


def test_listeners_hear_of_each_change_until_they_stop() -> None:
    store = new_store()
    heard: list[int] = []
    stop = store.subscribe(lambda: heard.append(store.version))
    store.create(config("a"))
    store.update(config("a"))
    store.delete("ConfigMap", "a")
    stop()
    store.create(config("a"))
    assert heard == [1, 2]


@given(st.integers(0, 2**32), st.integers(0, 30))
def test_a_list_and_the_changes_after_it_give_the_present(seed: int, before: int) -> None:
    chance, store = random.Random(seed), new_store()

    def step() -> None:
        name, value = chance.choice("abc"), chance.choice("12")
        there = any(obj.meta.name == name for obj in store.list("ConfigMap").objects)
        if not there:
            store.create(config(name, value))
        elif chance.random() < 0.4:
            store.delete("ConfigMap", name)
        else:
            store.update(config(name, value))

    for _step in range(before):
        step()
    listing = store.list("ConfigMap")
    known = {obj.meta.name: obj for obj in listing.objects}
    for _step in range(20):
        step()
    for event in store.changes(listing.version, "ConfigMap"):
        assert (event.type == "ADDED") == (event.object.meta.name not in known)
        if event.type == "DELETED":
            del known[event.object.meta.name]
        else:
            known[event.object.meta.name] = event.object
    assert tuple(known[name] for name in sorted(known)) == store.list("ConfigMap").objects


def test_each_is_in_the_order_of_creation_and_the_same_until_something_changes() -> None:
    store = new_store()
    for name in "bca":
        store.create(config(name))
    store.update(config("c", "2"))
    names = [obj.meta.name for obj in store.each("ConfigMap")]
    assert names == ["b", "c", "a"]
    assert store.each("ConfigMap") is store.each("ConfigMap")
    assert (store.version_of("ConfigMap"), store.version_of("Secret")) == (4, 0)


def test_a_time_of_birth_is_given_once() -> None:
    times = iter(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
    store = Store(lambda: "uid", now=lambda: next(times))
    store.create(config("a"))
    store.update(config("a", "2"))
    assert store.get("ConfigMap", "a").document["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


def test_threads_share_a_store_by_its_lock() -> None:
    import threading

    store = Store(itertools.count().__next__, 10_000, lock=threading.RLock())  # type: ignore[arg-type]
    store.create(config("a", "0"))

    def count() -> None:
        for _number in range(200):
            with store.lock:
                value = int(store.get("ConfigMap", "a").document["data"]["a"])
                store.update(config("a", str(value + 1)))

    threads = [threading.Thread(target=count) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("ConfigMap", "a").document["data"]["a"] == "800"
