"""Whatever a client sends, it gets an answer or a refusal: objects with odd parts, in every way to write."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.api.resources import of_kind
from hoplab.api.status import ApiError
from tests.unit.api.asking import Api

TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}],
                "resources": {"limits": {"cpu": "1"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "x"}}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "nodeName": "node1",
    },
}
SELECTOR = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}
SPECS = {
    "Deployment": {
        "spec": {"replicas": 1, "selector": SELECTOR, "template": TEMPLATE, "strategy": {"type": "Recreate"}}
    },
    "StatefulSet": {"spec": {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}},
    "DaemonSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "ReplicationController": {"spec": {"selector": {"app": "x"}, "template": TEMPLATE}},
    "Job": {"spec": {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
    "Pod": {"spec": TEMPLATE["spec"]},
    "Service": {
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "x"},
            "ports": [{"name": "a", "port": 80, "targetPort": "http", "nodePort": 30080}],
            "externalIPs": ["192.0.2.1"],
            "clusterIP": "10.0.0.9",
            "sessionAffinity": "ClientIP",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        }
    },
    "Endpoints": {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80, "name": "a"}]}]},
    "EndpointSlice": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}, "nodeName": "n"}],
        "ports": [{"name": "a", "port": 80, "protocol": "TCP"}],
    },
    "Ingress": {
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": ["a.example"], "secretName": "s"}],
            "rules": [
                {
                    "host": "a.example",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "s", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ],
        }
    },
    "NetworkPolicy": {
        "spec": {"podSelector": SELECTOR, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}
    },
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "ZA=="}},
    "Secret": {"data": {"a": "Yg=="}, "stringData": {"c": "d"}, "type": "Opaque"},
    "Event": {"involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "message": "m", "count": 1},
    "Lease": {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 1}},
    "Node": {
        "spec": {"podCIDR": "10.9.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}]},
    },
    "Namespace": {"spec": {"finalizers": ["kubernetes"]}},
    "IngressClass": {"spec": {"controller": "a/b", "parameters": {"kind": "K", "name": "n"}}},
    "ServiceAccount": {"secrets": [{"name": "s"}]},
}
METADATA = {
    "labels": {"app": "x"},
    "annotations": {"a/b": "c"},
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
    "finalizers": ["a/b"],
    "managedFields": [{"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}],
}
ODD = st.sampled_from(
    (
        *(None, True, -1, 0, 1.5, 2**40, 2**70, "", "x", "\0", "ü" * 300, "10.0.0.300", [], {}, [None], [[]], [{}]),
        *({"": ""}, {"a": None}, {"$patch": "delete"}, [1, "a"], {"name": 1}, {"metadata": []}),
    )
)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def places(value, path=()):
    """Every place in a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def changed(document, path, odd):
    made = copy.deepcopy(document)
    here = made
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = odd
    return made


def path_of(kind):
    resource = of_kind(kind)
    root = f"/apis/{resource.group_version}" if resource.group else "/api/v1"
    return f"{root}/namespaces/default/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"


def document_of(kind):
    head = {
        "apiVersion": of_kind(kind).group_version,
        "kind": kind,
        "metadata": {"name": "x", **copy.deepcopy(METADATA)},
    }
    return {**head, **copy.deepcopy(SPECS[kind])}


@pytest.mark.parametrize("kind", sorted(SPECS))
def test_a_good_object_is_taken_read_shown_and_deleted(kind):
    api, path = Api(), path_of(kind)
    assert api.ask("POST", path, document_of(kind)).code == 201
    assert api.ask("GET", path, accept=TABLE).document["rows"]
    again = api.get(f"{path}/x")
    assert api.ask("PUT", f"{path}/x", again).document == again, (
        "what was read can be written back, and changes nothing"
    )
    assert api.ask("DELETE", f"{path}/x").code == 200


@pytest.mark.parametrize("kind", sorted(SPECS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_odd_part_is_an_answer_or_a_refusal(kind, data):
    api, path, document = Api(), path_of(kind), document_of(kind)
    place = data.draw(st.sampled_from([each for each in places(document) if each]))
    odd = changed(document, place, data.draw(ODD))
    attempt(api, "POST", path, odd)
    if api.store.find(kind, "x", "default" if of_kind(kind).namespaced else "") is None:
        api.ask("POST", path, document)
    for media in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
        attempt(api, "PATCH", f"{path}/x", odd, media)
    attempt(api, "PATCH", f"{path}/x?fieldManager=f&force=true", odd, "application/apply-patch+yaml")
    pointer = "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in place)
    operation = {"op": "replace", "path": pointer, "value": odd}
    attempt(api, "PATCH", f"{path}/x", [operation], "application/json-patch+json")
    attempt(api, "PUT", f"{path}/x", odd)
    attempt(api, "GET", path, None, accept=TABLE)
    attempt(api, "DELETE", f"{path}/x", odd)


def attempt(api, method, path, body, media="application/json", accept="application/json"):
    """An answer that is JSON, or a refusal that is a Status; any other exception is a defect."""
    try:
        document = api.ask(method, path, body, media, accept).document
    except ApiError as refused:
        document = refused.document()
    assert json.dumps(document)
    assert document.get("code", 200) < 500, document
