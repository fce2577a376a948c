"""Patches of each kind, as RFC 6902, RFC 7386 and Kubernetes' strategic merge patch have them."""

import pytest

from hoplab.api import openapi
from hoplab.api.resources import of_kind
from hoplab.api.status import ApiError
from hoplab.api.strategic import json_patch, merge_patch, strategic_merge

DEPLOYMENT = openapi.of_resource(of_kind("Deployment"))
SERVICE = openapi.of_resource(of_kind("Service"))
CONFIG_MAP = openapi.of_resource(of_kind("ConfigMap"))
POD = openapi.of_resource(of_kind("Pod"))


def containers(*found):
    return {"spec": {"template": {"spec": {"containers": list(found)}}}}


NGINX, SIDE = {"name": "nginx", "image": "nginx:1"}, {"name": "side", "image": "busybox"}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, None, None),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_by_the_examples_of_rfc_7386(target, patch, result):
    assert merge_patch(target, patch) == result


def test_a_json_patch_that_does_not_fit_is_unprocessable():
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")


@pytest.mark.parametrize(
    ("what", "target", "patch", "result"),
    [
        ("an item is found by its key", containers(NGINX), containers({"name": "nginx", "image": "nginx:2"}),
         containers({"name": "nginx", "image": "nginx:2"})),
        ("a new item comes before those that the patch does not name", containers(NGINX), containers(SIDE),
         containers(SIDE, NGINX)),
        ("an item is deleted by a directive", containers(NGINX, SIDE), containers({"name": "side", "$patch": "delete"}),
         containers(NGINX)),
        ("a list is replaced by a directive", containers(NGINX), containers(SIDE, {"$patch": "replace"}),
         containers(SIDE)),
        ("an order that is given is kept", containers(NGINX, SIDE),
         {"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "side"}, {"name": "nginx"}],
                                         "containers": [{"name": "nginx", "image": "nginx:3"}]}}}},
         containers(SIDE, {"name": "nginx", "image": "nginx:3"})),
        ("a map is replaced by a directive", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {}}}},
         {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}},
         {"spec": {"strategy": {"type": "Recreate"}}}),
        ("keys that are not retained go", {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"x": 1}}}},
         {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
         {"spec": {"strategy": {"type": "Recreate"}}}),
        ("null removes", {"metadata": {"labels": {"a": "1", "b": "2"}}}, {"metadata": {"labels": {"a": None}}},
         {"metadata": {"labels": {"b": "2"}}}),
        ("a list without a strategy is replaced", containers({"name": "n", "command": ["a", "b"]}),
         containers({"name": "n", "command": ["c"]}), containers({"name": "n", "command": ["c"]})),
    ],
)  # fmt: skip
def test_strategic_merge(what, target, patch, result):
    assert strategic_merge(target, patch, DEPLOYMENT) == result, what


def test_ports_of_a_service_are_told_apart_by_their_number():
    target = {"spec": {"ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]}}
    patch = {"spec": {"ports": [{"port": 80, "name": "web"}]}}
    assert strategic_merge(target, patch, SERVICE) == {
        "spec": {"ports": [{"port": 80, "nodePort": 30080, "name": "web"}, {"port": 443}]}
    }


def test_values_are_deleted_from_a_list_of_plain_ones():
    target = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert strategic_merge(target, patch, POD) == {"metadata": {"finalizers": ["a", "c"]}}
    added = strategic_merge(target, {"metadata": {"finalizers": ["d", "a"]}}, POD)
    assert sorted(added["metadata"]["finalizers"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("patch", [{"$patch": "burn"}, [], 3, containers({"image": "no name"}), containers(3)])
def test_a_patch_that_makes_no_sense_is_refused(patch):
    with pytest.raises(ApiError) as refused:
        strategic_merge(containers(NGINX), patch, DEPLOYMENT)
    assert refused.value.code == 400


def test_what_is_patched_is_not_changed_itself():
    target = containers(dict(NGINX))
    strategic_merge(target, containers({"name": "nginx", "image": "other"}), DEPLOYMENT)
    assert target == containers(NGINX)
