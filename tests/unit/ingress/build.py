"""Ingresses and what they point to, written as YAML and loaded as any manifest is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hoplab.ingress import nginx, rules
from hoplab.ingress.rules import Options, Plan, View
from hoplab.ingress.settings import Global
from hoplab.kube.convert import endpoint_slices, services
from hoplab.kube.load import load

WEB = "10.1.0.4:80"
SERVICES = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.1.0.4}], notReadyAddresses: [{ip: 10.1.0.9}], ports: [{name: http, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{port: 8080, targetPort: 9000}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: api}
subsets: [{addresses: [{ip: 10.1.0.5}, {ip: 10.1.0.6}], ports: [{port: 9000}]}]
---
apiVersion: v1
kind: Service
metadata: {name: default-http-backend, namespace: kube-system}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: default-http-backend, namespace: kube-system}
subsets: [{addresses: [{ip: 10.1.0.7}], ports: [{port: 8080}]}]
"""


def ingress(
    *paths: str, name: str = "one", host: str = "a.example", annotations: Sequence[str] = (), more: str = ""
) -> str:
    """An Ingress of one host.  A path is 'TYPE PATH SERVICE:PORT', an annotation 'name: value', `more` lies in spec."""
    lines = [
        "apiVersion: networking.k8s.io/v1",
        "kind: Ingress",
        "metadata:",
        f"  name: {name}",
        "  annotations:",
        *(f"    {each}" for each in annotations),
        "spec:",
        *textwrap.indent(textwrap.dedent(more), "  ").splitlines(),
    ]
    if paths:
        lines += ["  rules:", *([f"  - host: {host!r}", "    http:"] if host else ["  - http:"]), "      paths:"]
    for path in paths:
        kind, where, backend = path.split()
        service, _, port = backend.partition(":")
        wanted = f"{{number: {port}}}" if port.isdigit() else f"{{name: {port}}}"
        lines.append(
            f"      - {{path: {where!r}, pathType: {kind}, backend: {{service: {{name: {service}, port: {wanted}}}}}}}"
        )
    return "\n".join(lines) + "\n"


def view(*manifests: str, objects: str = SERVICES) -> View:
    """What a controller sees when these objects are there."""
    found = load("---\n".join((objects, *manifests)), "test.yaml").objects
    return View(
        [each for each in found if each.kind == "Ingress"],
        [each for each in found if each.kind == "IngressClass"],
        [each for each in found if each.kind == "Secret"],
        services(found),
        endpoint_slices(found),
    )


def plan(
    *manifests: str, options: Options | None = None, shared: Global | None = None, objects: str = SERVICES
) -> Plan:
    """The plan for these objects."""
    return rules.plan(view(*manifests, objects=objects), options or Options(), shared or Global())


def config(*manifests: str, options: Options | None = None, shared: Global | None = None) -> str:
    """nginx.conf for these objects."""
    made = plan(*manifests, options=options, shared=shared)
    return nginx.write(made, options or Options(), shared or Global()).config


def found(made: Plan, host: str) -> dict[str, tuple[str, ...]]:
    """'kind path' -> endpoints, of one host."""
    (one,) = [each for each in made.hosts if each.name == host]
    return {f"{each.kind} {each.path}": each.backend.endpoints for each in one.locations}
