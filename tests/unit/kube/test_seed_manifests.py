"""The manifests of 2017 load as they are, and become today's typed values."""

from __future__ import annotations

from pathlib import Path

from hoplab.kube import convert
from hoplab.kube.load import load_files
from hoplab.kube.types import Container, ContainerPort, Service, ServicePort

SEED = Path(__file__).parents[2] / "fixtures" / "seed"


def test_every_manifest_loads_and_names_what_is_old() -> None:
    loaded = load_files(sorted(SEED.glob("*.yaml")))
    assert [(obj.api_version, *obj.key) for obj in loaded.objects] == [
        ("v1", "Service", "default", "nginx-nodeport"),
        ("v1", "ReplicationController", "default", "nginx-1.12"),
        ("apps/v1", "Deployment", "default", "echoserver"),
        ("v1", "Service", "default", "echoserver"),
        ("networking.k8s.io/v1", "Ingress", "default", "ingress-example"),
        ("apps/v1", "Deployment", "default", "nginx"),
        ("v1", "Service", "default", "nginx"),
    ]
    assert [warning.partition(": ")[2] for warning in loaded.warnings] == [
        "apps/v1beta1 Deployment is deprecated and no longer served by Kubernetes; taken as apps/v1 Deployment",
        "extensions/v1beta1 Ingress is deprecated and no longer served by Kubernetes;"
        " taken as networking.k8s.io/v1 Ingress",
        "apps/v1beta1 Deployment is deprecated and no longer served by Kubernetes; taken as apps/v1 Deployment",
    ]
    assert loaded.warnings[0].startswith(f"{SEED / '5-2-1_echoserver.yaml'}:1: ")


def test_the_service_of_section_2() -> None:
    (obj,) = load_files([SEED / "3-2-3_nodeport.yaml"]).objects
    service = convert.as_service(obj)
    assert service == Service(
        meta=service.meta,
        type="NodePort",
        ports=(ServicePort(80, "TCP", "", 80),),
        selector={"project": "chapter3", "service": "web"},
        ip_families=("IPv4",),
        origin=obj.origin,
    )
    assert (service.key, service.origin.line) == ("default/nginx-nodeport", 1)


def test_the_replication_controller_of_section_2() -> None:
    (obj,) = load_files([SEED / "3-2-3_rc1.yaml"]).objects
    workload = convert.as_workload(obj)
    labels = {"project": "chapter3", "service": "web", "version": "1.12"}
    assert (workload.kind, workload.replicas, workload.selector) == ("ReplicationController", 2, labels)
    assert workload.template.meta.labels == labels
    (container,) = workload.template.containers
    assert container == Container(
        "nginx", "nginx:1.12.0", ports=(ContainerPort(80, "TCP"),), document=container.document
    )


def test_the_ingress_of_section_4_in_todays_words() -> None:
    (obj,) = load_files([SEED / "5-2-1_ingress.yaml"]).objects

    def path(at: str, service: str, port: int) -> dict[str, object]:
        backend = {"service": {"name": service, "port": {"number": port}}}
        return {"path": at, "pathType": "ImplementationSpecific", "backend": backend}

    assert obj.document["spec"]["rules"] == [
        {
            "host": "devops.k8s",
            "http": {"paths": [path("/welcome", "nginx", 80), path("/echoserver", "echoserver", 8080)]},
        }
    ]


def test_a_deployment_without_a_selector_selects_its_templates_labels() -> None:
    (obj, _service) = load_files([SEED / "5-2-1_nginx.yaml"]).objects
    assert obj.document["spec"]["selector"] == {"matchLabels": {"project": "chapter5", "service": "nginx"}}
    assert convert.as_workload(obj).replicas == 2
