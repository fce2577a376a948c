"""`kubectl --as`: who is impersonated, and what somebody without any role may do."""

import json

import pytest

from hoplab.api import paths, users
from hoplab.api.service import Request
from hoplab.api.status import ApiError
from tests.unit.api.asking import Api

BOB = users.asking("bob", [])


def test_who_impersonates_nobody_is_the_labs_own_user():
    assert users.asking("", []) == users.ADMIN
    assert users.ADMIN.almighty


@pytest.mark.parametrize(
    ("name", "groups", "found"),
    [
        ("bob", [], ("system:authenticated",)),
        ("bob", ["devs"], ("devs", "system:authenticated")),
        ("system:anonymous", [], ("system:unauthenticated",)),
        (
            "system:serviceaccount:shop:robot",
            [],
            ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
        ),
    ],
)
def test_groups_that_a_name_brings(name, groups, found):
    user = users.asking(name, groups)
    assert user.groups == found
    assert not user.almighty


def test_groups_without_a_name_are_refused():
    with pytest.raises(ApiError, match="without impersonating a user"):
        users.asking("", ["devs"])


def test_the_group_of_masters_may_do_everything():
    users.expect_allowed(users.asking("x", ["system:masters"]), "delete", paths.parse("/api/v1/nodes/node1"))


@pytest.mark.parametrize(
    ("path", "verb", "told"),
    [
        (
            "/api/v1/namespaces/default/pods",
            "list",
            'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            "/api/v1/namespaces/default/pods/x/log",
            "get",
            'pods "x" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in the namespace'
            ' "default"',
        ),
        (
            "/apis/apps/v1/deployments",
            "list",
            'deployments.apps is forbidden: User "bob" cannot list resource "deployments" in API group "apps" at the'
            " cluster scope",
        ),
    ],
)
def test_somebody_else_is_forbidden_everything(path, verb, told):
    with pytest.raises(ApiError) as refused:
        users.expect_allowed(BOB, verb, paths.parse(path))
    assert (refused.value.code, str(refused.value)) == (403, told)


def review(kind, group, user, **spec):
    path = f"/apis/{group}/v1/{kind.lower()}s"
    body = json.dumps({"spec": spec}).encode()
    request = Request("POST", paths.parse(path), {}, "application/json", "", "tester", body, user)
    return Api().service.answer(request).document["status"]


def test_everybody_may_ask_who_he_is():
    found = review("SelfSubjectReview", "authentication.k8s.io", BOB)
    assert found == {"userInfo": {"username": "bob", "groups": ["system:authenticated"]}}


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"resourceAttributes": {"verb": "list", "resource": "pods"}}, False),
        (
            {
                "resourceAttributes": {
                    "verb": "create",
                    "group": "authorization.k8s.io",
                    "resource": "selfsubjectaccessreviews",
                }
            },
            True,
        ),
        ({"nonResourceAttributes": {"verb": "get", "path": "/api/v1"}}, True),
        ({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}, False),
        ({"nonResourceAttributes": {"verb": "post", "path": "/api/v1"}}, False),
    ],
)
def test_what_somebody_else_may_do(asked, allowed):
    assert review("SelfSubjectAccessReview", "authorization.k8s.io", BOB, **asked)["allowed"] is allowed


def test_the_rules_of_both():
    group = "authorization.k8s.io"
    assert review("SelfSubjectRulesReview", group, users.ADMIN)["resourceRules"][0]["verbs"] == ["*"]
    assert {tuple(rule["verbs"]) for rule in review("SelfSubjectRulesReview", group, BOB)["resourceRules"]} == {
        ("create",)
    }
