"""Manifests become typed values, in the API versions of today and of 2017."""

import random
from pathlib import Path

import pytest

from hoplab.kube import convert
from hoplab.kube.allocate import allocate
from hoplab.kube.load import load, load_files
from hoplab.kube.problems import ManifestError

SEED = Path(__file__).resolve().parents[2] / "fixtures" / "seed"


def taken(services, **options):
    settings = {"service_cidrs": ("10.0.0.0/16",), "node_ports": range(30000, 32768), "vips": "198.51.100.0/24"}
    return allocate(services, **{**settings, "chance": random.Random(1), **options})


def test_the_chapters_manifests_load_as_they_are():
    loaded = load_files(sorted(SEED.glob("*.yaml")))
    assert [(each.kind, each.meta.name) for each in loaded.objects] == [
        ("Service", "nginx-nodeport"),
        ("ReplicationController", "nginx-1.12"),
        ("Deployment", "echoserver"),
        ("Service", "echoserver"),
        ("Ingress", "ingress-example"),
        ("Deployment", "nginx"),
        ("Service", "nginx"),
    ]
    assert len(loaded.warnings) == 3
    controller = convert.as_workload(loaded.of("ReplicationController")[0])
    assert controller.replicas == 2
    assert controller.selector == {"project": "chapter3", "service": "web", "version": "1.12"}
    assert controller.template.containers[0].ports[0].port == 80


def test_a_deployment_of_2017_selects_its_templates_labels():
    loaded = load_files([SEED / "5-2-1_nginx.yaml"])
    deployment = convert.as_workload(loaded.of("Deployment")[0])
    assert loaded.objects[0].api_version == "apps/v1"
    assert deployment.selector == {"project": "chapter5", "service": "nginx"}


def test_an_ingress_of_2017_names_its_backends_as_today():
    (ingress,) = load_files([SEED / "5-2-1_ingress.yaml"]).objects
    path = ingress.document["spec"]["rules"][0]["http"]["paths"][0]
    assert path["backend"] == {"service": {"name": "nginx", "port": {"number": 80}}}
    assert path["pathType"] == "ImplementationSpecific"


def test_a_services_defaults():
    (service,) = convert.services(
        load("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}", "f").objects
    )
    assert service.type == "ClusterIP"
    assert (service.ports[0].target_port, service.ports[0].protocol) == (80, "TCP")
    assert service.external_traffic_policy == service.internal_traffic_policy == "Cluster"
    assert (service.session_affinity, service.session_affinity_timeout) == ("None", 10800)
    assert service.ip_families == ("IPv4",)
    assert service.key == "default/a"


def test_a_slices_conditions_default_as_the_api_says():
    text = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{port: 80}]
endpoints:
- {addresses: [10.1.1.2]}
- {addresses: [10.1.1.3], conditions: {ready: false}}
- {addresses: [10.1.1.4], conditions: {ready: false, serving: true, terminating: true}}
"""
    ((piece),) = convert.endpoint_slices(load(text, "f").objects)
    assert [(e.ready, e.serving, e.terminating) for e in piece.endpoints] == [
        (True, True, False),
        (False, False, False),
        (False, True, True),
    ]
    assert piece.service == "a"


def test_endpoints_written_by_hand_are_mirrored():
    text = """
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets:
- addresses: [{ip: 203.0.113.10}]
  notReadyAddresses: [{ip: 203.0.113.11}]
  ports: [{port: 8080}]
"""
    (piece,) = convert.endpoint_slices(load(text, "f").objects)
    assert piece.service == "outside"
    assert [(e.addresses, e.ready) for e in piece.endpoints] == [(("203.0.113.10",), True), (("203.0.113.11",), False)]


def test_allocation_honours_what_is_asked_and_is_repeatable():
    text = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: LoadBalancer, clusterIP: 172.30.0.41, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 3001}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""
    services = convert.services(load(text, "f").objects)
    first, second = taken(services)
    assert (first.cluster_ips, first.ports[0].node_port) == (("172.30.0.41",), 3001)
    assert first.health_check_node_port in range(30000, 32768)
    assert [s.load_balancer_ingress[0].ip for s in (first, second)] == ["198.51.100.10", "198.51.100.11"]
    assert taken(services) == (first, second)
    assert taken((first, second)) == (first, second)


def test_a_full_range_is_told():
    services = convert.services(
        load(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, ports: [{port: 1}]}", "f"
        ).objects
    )
    with pytest.raises(ManifestError, match="range is full"):
        taken(services, node_ports=range(0))
