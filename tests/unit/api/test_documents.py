"""Discovery, OpenAPI and protobuf: what is told of the API agrees with what it serves."""

import json
import struct

import pytest

from hoplab.api import bodies, discovery, openapi, openapi_documents, openapi_protobuf, paths, protobuf
from hoplab.api.registry import Target
from hoplab.api.resources import CURRENT, RESOURCES, groups
from hoplab.api.status import ApiError
from hoplab.kube import schema


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: f"{each.plural}.{each.version}.{each.group}")
def test_every_resource_is_discovered_described_and_found_by_its_path(resource):
    name = resource.group_version
    root = f"/apis/{name}" if resource.group else f"/api/{name}"
    middle = "/namespaces/default" if resource.namespaced else ""
    target = paths.parse(f"{root}{middle}/{resource.plural}")
    assert target == Target(resource, "default" if resource.namespaced else "")
    listed = discovery.resource_list(resource.group, resource.version)
    assert resource.plural in {each["name"] for each in listed["resources"]}
    schema = openapi.of_resource(resource)
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    assert kind in schema[openapi.GVK]
    document = json.loads(openapi_documents.version_3(resource.group, resource.version))
    assert openapi_documents.collection_path(resource) in document["paths"]
    assert openapi.definition_name(resource.group, resource.version, resource.kind) in document["components"]["schemas"]


def test_every_reference_of_the_openapi_documents_leads_somewhere():
    text = json.dumps(openapi.definitions())
    names = {part.partition('"')[0] for part in text.split('"#/definitions/')[1:]}
    assert names <= set(openapi.definitions())
    for group, versions in groups().items():
        for version in versions:
            document = json.loads(openapi_documents.version_3(group, version))
            text = json.dumps(document)
            names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
            assert names <= set(document["components"]["schemas"])


def test_merge_keys_are_the_apis_own():
    """Facts that kubectl apply depends on."""
    spec = openapi.definitions()["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert (spec["x-kubernetes-patch-merge-key"], spec["x-kubernetes-list-map-keys"]) == ("name", ["name"])
    ports = openapi.definitions()["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert (ports["x-kubernetes-patch-merge-key"], ports["x-kubernetes-list-map-keys"]) == (
        "port",
        ["port", "protocol"],
    )


def test_the_aggregated_discovery_has_all_of_it():
    core, tag = discovery.aggregated(True, "v2")
    others, other_tag = discovery.aggregated(False, "v2")
    found = {
        (item["metadata"].get("name", ""), version["version"], each["resource"])
        for document in (core, others)
        for item in document["items"]
        for version in item["versions"]
        for each in version["resources"]
    }
    assert found == {(each.group, each.version, each.plural) for each in RESOURCES}
    assert tag != other_tag


def read_fields(data):
    """Protocol buffers, read as plainly as possible."""
    at = 0

    def varint():
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            length = varint()
            yield tag >> 3, data[at : at + length]
            at += length


def test_openapi_as_protobuf_has_every_definition():
    document = list(read_fields(openapi_protobuf.document()))
    assert dict(document)[1] == b"2.0"
    definitions = next(value for number, value in document if number == 9)
    names = {dict(read_fields(value))[1].decode() for _number, value in read_fields(definitions)}
    assert names == set(openapi.definitions())


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def envelope(version, kind, raw):
    return b"k8s\0" + field(1, field(1, version) + field(2, kind)) + field(2, raw)


def test_a_typed_body_in_protobuf_is_read_as_its_json():
    labels = field(1, "app") + field(2, "web")
    metadata = field(1, "web") + field(2, "") + field(11, labels)
    container = field(1, "c") + field(2, "nginx")
    template = field(1, field(11, labels)) + field(2, field(2, container))
    spec = field(1, 0) + field(2, field(1, labels)) + field(3, template) + field(5, 0)
    body = envelope("apps/v1", "Deployment", field(1, metadata) + field(2, spec) + field(3, b""))
    made = bodies.decode(body, "application/vnd.kubernetes.protobuf").data
    assert (made["apiVersion"], made["kind"], made["metadata"]) == (
        "apps/v1",
        "Deployment",
        {"name": "web", "labels": {"app": "web"}},
    )
    assert made["spec"]["replicas"] == 0, "a zero that means something"
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx"
    assert "minReadySeconds" not in made["spec"], "a zero that means nothing"


def test_a_protobuf_field_that_is_not_known_is_refused_unless_it_says_nothing():
    assert protobuf.decode(envelope("v1", "ConfigMap", bytes([0xA2, 0x06, 0])))["kind"] == "ConfigMap"
    with pytest.raises(ApiError) as refused:
        protobuf.decode(envelope("v1", "ConfigMap", bytes([0xA2, 0x06, 1]) + b"x"))
    assert refused.value.code == 415


@pytest.mark.parametrize(
    "noise", [b"k8s\0\xff", b"k8s\0\x0a\xff\x01", b"k8s\0" + struct.pack(">I", 7), b"JSON", b"k8s\0\x0d1234"]
)
def test_protobuf_noise_is_a_bad_request(noise):
    with pytest.raises(ApiError) as refused:
        bodies.decode(noise, "application/vnd.kubernetes.protobuf")
    assert refused.value.code in (400, 415)


def test_current_resources_are_of_kinds_that_the_lab_can_read():
    stored = {each.kind for each in CURRENT if not each.virtual}
    assert stored <= {key.rpartition("/")[2] for key in schema.kinds()}
