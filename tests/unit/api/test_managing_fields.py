"""Server-side apply: who owns what, what conflicts, and what goes when nobody wants it any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.api import fieldsets, openapi
from hoplab.api.managed import Manager, applied, entries, updated
from hoplab.api.resources import of_kind
from hoplab.api.status import ApiError

CONFIG_MAP = openapi.of_resource(of_kind("ConfigMap"))
DEPLOYMENT = openapi.of_resource(of_kind("Deployment"))
SERVICE = openapi.of_resource(of_kind("Service"))
ONE, TWO = Manager("one", "Apply", "v1"), Manager("two", "Apply", "v1")
EDITOR = Manager("editor", "Update", "v1")


def config(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


def apply(live, manager, force=False, **data):
    return applied(live, config(**data), manager, "now", CONFIG_MAP, force=force)


def owners(document):
    return {entry.manager.name: sorted(fieldsets.shown(path) for path in entry.fields) for entry in entries(document)}


def test_fields_v1_is_written_as_the_api_writes_it():
    document = {
        "metadata": {"name": "x", "labels": {"a": "1"}, "finalizers": ["f"]},
        "spec": {"ports": [{"port": 80}], "selector": {"k": "v"}, "type": "ClusterIP"},
    }
    fields = fieldsets.encode(path for path, _value in fieldsets.leaves(document, SERVICE))
    assert fields == {
        "f:metadata": {"f:name": {}, "f:labels": {"f:a": {}}, "f:finalizers": {'v:"f"': {}}},
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
            "f:selector": {},
            "f:type": {},
        },
    }


PARTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.frozensets(st.lists(PARTS, min_size=1, max_size=4).map(tuple), max_size=8)


@given(PATHS)
def test_a_set_of_fields_is_read_as_it_was_written(paths):
    assert fieldsets.decode(fieldsets.encode(paths)) == paths


def test_who_applies_owns_what_it_says_and_no_more():
    live = apply(None, ONE, a="1")
    live = apply(live, TWO, b="2")
    assert live["data"] == {"a": "1", "b": "2"}
    assert owners(live) == {"one": [".data.a"], "two": [".data.b"]}


def test_the_same_value_may_have_two_owners_and_goes_with_the_last():
    live = apply(apply(None, ONE, a="1"), TWO, a="1")
    assert owners(live) == {"one": [".data.a"], "two": [".data.a"]}
    live = apply(live, ONE)
    assert live["data"] == {"a": "1"}
    live = apply(live, TWO)
    assert "data" not in live or live["data"] == {}


def test_another_value_is_a_conflict_that_can_be_forced():
    live = apply(None, ONE, a="1")
    with pytest.raises(ApiError) as refused:
        apply(live, TWO, a="2")
    assert str(refused.value) == 'Apply failed with 1 conflict: conflict with "one" using v1: .data.a'
    assert refused.value.document()["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one" using v1', "field": ".data.a"}
    ]
    forced = apply(live, TWO, force=True, a="2")
    assert (forced["data"], owners(forced)) == ({"a": "2"}, {"two": [".data.a"]})


def test_several_conflicts_are_listed_by_owner():
    live = apply(None, ONE, a="1", b="1")
    with pytest.raises(ApiError) as refused:
        apply(live, TWO, a="2", b="2")
    expected = 'Apply failed with 2 conflicts: conflicts with "one" using v1:\n- .data.a\n- .data.b'
    assert str(refused.value) == expected


def test_an_update_takes_what_it_changes_from_its_owner():
    live = apply(None, ONE, a="1", b="1")
    after = {**live, "data": {"a": "9", "b": "1"}}
    live = updated(live, after, EDITOR, "later", CONFIG_MAP)
    assert owners(live) == {"one": [".data.b"], "editor": [".data.a"]}
    with pytest.raises(ApiError) as refused:
        apply(live, ONE, a="1", b="1")
    assert 'conflict with "editor" using v1: .data.a' in str(refused.value)


def test_what_changes_nothing_is_the_live_object_itself():
    live = apply(None, ONE, a="1")
    assert apply(live, ONE, a="1") == live


def test_items_of_a_list_have_owners_of_their_own():
    def deployment(*found):
        spec = {"template": {"spec": {"containers": list(found)}}}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}

    nginx, side = {"name": "nginx", "image": "nginx"}, {"name": "side", "image": "busybox"}
    live = applied(None, deployment(nginx), ONE, "now", DEPLOYMENT, force=False)
    live = applied(live, deployment(side), TWO, "now", DEPLOYMENT, force=False)
    names = [each["name"] for each in live["spec"]["template"]["spec"]["containers"]]
    assert names == ["nginx", "side"]
    live = applied(live, deployment(), TWO, "now", DEPLOYMENT, force=False)
    assert live["spec"]["template"]["spec"]["containers"] == [nginx]


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
)
def test_apply_ends_with_what_was_applied_last(first, second):
    live = apply(apply(None, ONE, **first), ONE, **second)
    assert (live.get("data") or {}) == second
    assert owners(live).get("one", []) == ([".data"] if not second else [f".data.{key}" for key in sorted(second)])
