"""Refusals in the API server's own words, which are what people search the web for: whole messages."""

import base64
import json

import pytest

from hoplab.api.gotypes import illegal_base64
from hoplab.kube import quantities
from tests.unit.api.asking import Api

DEFAULT = "/api/v1/namespaces/default"
NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    " (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or"
    " 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
LAYOUT = "2006-01-02T15:04:05Z07:00"


@pytest.fixture
def api():
    return Api()


def refused(api, kind, metadata=None, plural="", **fields):
    """What is said to a new object: code, and message without the object's name."""
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"} if metadata is None else metadata, **fields}
    error = api.refused("POST", f"{DEFAULT}/{plural or kind.lower() + 's'}", document)
    return error.code, str(error).partition(" is invalid: " if error.code == 422 else " cannot be handled as ")[2]


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "X"}, f'metadata.name: Invalid value: "X": {SUBDOMAIN}'),
        ({"name": "x", "labels": {"a b": ""}}, f'metadata.labels: Invalid value: "a b": name part {NAME}'),
        (
            {"name": "x", "annotations": {"a/b/c": ""}},
            f'metadata.annotations: Invalid value: "a/b/c": a qualified name {NAME} with an optional DNS'
            " subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ),
        (
            {"name": "x", "finalizers": ["mine"]},
            'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully'
            " qualified",
        ),
        (
            {"name": "x", "annotations": {"a": "b" * 256 * 1024}},
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            {"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]},
            'metadata.ownerReferences[0].uid: Invalid value: "": must not be empty',
        ),
    ],
)
def test_metadata(api, metadata, told):
    assert refused(api, "ConfigMap", metadata) == (422, told)


def test_a_generated_name_is_told_with_what_it_was_generated_from(api):
    code, told = refused(api, "ConfigMap", {"generateName": "Foo-"})
    assert code == 422
    assert told.startswith(
        f'[metadata.generateName: Invalid value: "Foo-": {SUBDOMAIN}, metadata.name: Invalid value: "Foo-'
    )


def test_two_controllers_are_one_too_many(api):
    owner = {"apiVersion": "v1", "kind": "Pod", "controller": True}
    owners = [{**owner, "name": name, "uid": name} for name in "ab"]
    told = 'Only one reference can have Controller set to true. Found "true" in references for Pod/a and Pod/b'
    assert refused(api, "ConfigMap", {"name": "x", "ownerReferences": owners})[1].endswith(told)


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("ConfigMap", {"data": {"a b": ""}}, f'data[a b]: Invalid value: "a b": {CONFIG_KEY}'),
        ("ConfigMap", {"data": {"..": ""}}, "data[..]: Invalid value: \"..\": must not be '..'"),
        ("ConfigMap", {"data": {"a": "b" * 1024 * 1024 + "c"}}, "[]: Too long: may not be more than 1048576 bytes"),
        ("Secret", {"stringData": {"a": "b" * 1024 * 1025}}, "data: Too long: may not be more than 1048576 bytes"),
        ("Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, "data[tls.key]: Required value"),
        ("Secret", {"type": "kubernetes.io/dockerconfigjson"}, "data[.dockerconfigjson]: Required value"),
        (
            "Secret",
            {"type": "kubernetes.io/basic-auth"},
            "[data[username]: Required value, data[password]: Required value]",
        ),
        (
            "Secret",
            {"type": "kubernetes.io/service-account-token"},
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        ),
    ],
)
def test_data(api, kind, fields, told):
    assert refused(api, kind, **fields) == (422, told)


def test_a_secret_for_basic_authentication_needs_one_of_two_keys(api):
    given = {"type": "kubernetes.io/basic-auth", "stringData": {"username": "me"}}
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, **given}
    assert api.ask("POST", f"{DEFAULT}/secrets", document).code == 201


def pod(spec=None, **container):
    return {"spec": {"containers": [{"name": "c", "image": "i", **container}], **(spec or {})}}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            pod(resources={"limits": {"cpu": "100m"}, "requests": {"cpu": 1}}),
            'spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit of'
            " 100m",
        ),
        (
            pod(resources={"limits": {"memory": "-1Mi"}}),
            'spec.containers[0].resources.limits[memory]: Invalid value: "-1Mi": must be greater than or equal to 0',
        ),
        (pod(env=[{"name": ""}]), "spec.containers[0].env[0].name: Required value"),
        (pod(startupProbe={}), "spec.containers[0].startupProbe: Required value: must specify a handler type"),
        (
            pod(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            pod({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            pod({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            pod({"tolerations": [{"key": "a", "effect": "Never"}]}),
            'spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule",'
            ' "PreferNoSchedule"',
        ),
    ],
)
def test_pods(api, spec, told):
    assert refused(api, "Pod", **spec) == (422, told)


def test_a_missing_selector_is_told_with_what_follows_from_it(api):
    template = {"metadata": {"labels": {"a": "b"}}, **pod()}
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"template": template},
    }
    assert str(api.refused("POST", "/apis/apps/v1/namespaces/default/deployments", document)) == (
        'Deployment.apps "x" is invalid: [spec.selector: Required value, spec.template.metadata.labels: Invalid value:'
        ' {"a":"b"}: `selector` does not match template `labels`]'
    )


def test_a_job_is_meant_to_end(api):
    document = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": pod()}}
    told = 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    assert str(api.refused("POST", "/apis/batch/v1/namespaces/default/jobs", document)).endswith(told)


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("Pod", pod(resources={"limits": {"cpu": "a lot"}}), QUANTITY),
        ("Pod", pod(resources={"limits": {"cpu": "1cm"}}), QUANTITY),
        ("Pod", pod(resources={"limits": {"cpu": "1kk"}}), "unable to parse quantity's suffix"),
        ("Pod", pod(resources={"limits": {"cpu": "1.2.3"}}), "unable to parse numeric part of quantity"),
        ("Pod", pod(resources={"limits": {"cpu": True}}), QUANTITY),
        (
            "Service",
            {"spec": {"ports": [{"port": 80, "targetPort": True}]}},
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        ("Secret", {"data": {"a": "hello!"}}, "illegal base64 data at input byte 5"),
        (
            "Event",
            {"involvedObject": {}, "firstTimestamp": "yesterday"},
            f'parsing time "yesterday" as "{LAYOUT}": cannot parse "yesterday" as "2006"',
        ),
        (
            "Event",
            {"involvedObject": {}, "firstTimestamp": "2026-01-02 03:04:05Z"},
            f'parsing time "2026-01-02 03:04:05Z" as "{LAYOUT}": cannot parse " 03:04:05Z" as "T"',
        ),
        (
            "Event",
            {"involvedObject": {}, "firstTimestamp": "2026-13-02T03:04:05Z"},
            'parsing time "2026-13-02T03:04:05Z": month out of range',
        ),
        (
            "Event",
            {"involvedObject": {}, "firstTimestamp": "2026-02-30T03:04:05Z"},
            'parsing time "2026-02-30T03:04:05Z": day out of range',
        ),
        (
            "Event",
            {"involvedObject": {}, "firstTimestamp": 7},
            "json: cannot unmarshal number into Go value of type string",
        ),
    ],
)
def test_values_that_their_type_reads_itself(api, kind, fields, told):
    assert refused(api, kind, **fields) == (400, f"a {kind}: {told}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        *(("", None), ("aGk=", None), ("aG\nk=\n", None), ("a", 0), ("aGk", 0), ("aGkhaa", 4), ("aG=k", 2), ("=", 0)),
        *(("aGk=x", 4), ("ag==", None), ("ag=", 3), ("a_k=", 1)),
    ],
)
def test_where_base64_ends(text, place):
    assert illegal_base64(text) == place
    if place is None:
        base64.b64decode(text.replace("\n", ""), validate=True)


@pytest.mark.parametrize(
    ("less", "more"),
    [("999m", 1), ("1000M", "1Gi"), ("1k", "1Ki"), ("1", "2e0"), ("1n", "1u"), (".5", "500.1m"), (-1, 0)],
)
def test_amounts_are_compared_whatever_their_suffixes(less, more):
    assert quantities.parse(less) < quantities.parse(more)


def test_equal_amounts_of_different_suffixes():
    assert (
        quantities.parse("1Ki") == quantities.parse(1024) == quantities.parse("1.024e3") == quantities.parse("1024000m")
    )


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("pods?fieldSelector=spec.unicorn=1", "field label not supported: spec.unicorn"),
        (
            "configmaps?fieldSelector=data.a=1",
            '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ],
)
def test_fields_that_can_not_be_selected(api, path, told):
    assert str(api.refused("GET", f"{DEFAULT}/{path}")) == told


@pytest.mark.parametrize(
    ("media", "body", "told"),
    [
        ("strategic-merge-patch", "x", "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        ("json-patch", {}, "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
    ],
)
def test_patches_that_are_none(api, media, body, told):
    api.ask("POST", f"{DEFAULT}/configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    data = json.dumps(body).encode()
    assert str(api.refused("PATCH", f"{DEFAULT}/configmaps/x", data, f"application/{media}+json")) == told


def test_an_object_that_is_being_deleted_takes_no_new_finalizer(api):
    held = {"name": "x", "finalizers": ["example.org/hold"]}
    api.ask("POST", f"{DEFAULT}/configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
    api.ask("DELETE", f"{DEFAULT}/configmaps/x")
    patch = {"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}
    refused = api.refused("PATCH", f"{DEFAULT}/configmaps/x", patch, "application/merge-patch+json")
    assert str(refused) == (
        'ConfigMap "x" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is'
        ' being deleted, found new finalizers []string{"example.org/more"}'
    )
    patch = {"metadata": {"finalizers": None}}
    api.ask("PATCH", f"{DEFAULT}/configmaps/x", patch, "application/merge-patch+json")
    assert api.refused("GET", f"{DEFAULT}/configmaps/x").code == 404
