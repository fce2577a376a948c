"""Makes hoplab/api/openapi.json from kubernetes-validate: the OpenAPI definitions of each kind and all they reach.

A development tool, run by hand when Kubernetes' API moves on; the lab itself needs none
of it.  kubernetes-validate packs Kubernetes' own OpenAPI document, with descriptions, merge
keys and list types, as JSON schema; here it becomes OpenAPI again (a type that may be null
is the type, the words that were added for checking are dropped):

    pip download --no-deps kubernetes-validate==1.33.1 && unzip kubernetes_validate*.whl -d validate
    python tools/make_openapi.py validate/kubernetes_validate/kubernetes-json-schema/v1.33.0-local/_definitions.json \\
        > hoplab/api/openapi.json

One definition stands on one line, so that a change of Kubernetes' API can be read as a diff.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
KINDS = {
    "io.k8s.api.core.v1": (
        "Namespace Node Pod ReplicationController Service Endpoints ConfigMap Secret ServiceAccount Event Binding"
    ),
    "io.k8s.api.apps.v1": "ReplicaSet Deployment DaemonSet StatefulSet ControllerRevision",
    "io.k8s.api.batch.v1": "Job",
    "io.k8s.api.discovery.v1": "EndpointSlice",
    "io.k8s.api.events.v1": "Event",
    "io.k8s.api.networking.v1": "Ingress IngressClass NetworkPolicy",
    "io.k8s.api.coordination.v1": "Lease",
    "io.k8s.api.autoscaling.v1": "Scale",
    "io.k8s.api.policy.v1": "Eviction",
    "io.k8s.api.authorization.v1": "SelfSubjectAccessReview SelfSubjectRulesReview",
    "io.k8s.api.authentication.v1": "SelfSubjectReview",
    META: "Status DeleteOptions Patch WatchEvent",
}
KEPT = ("description", "format", "required", "default", "x-kubernetes-group-version-kind")
PREFIX = "#/$defs/"


def openapi(schema: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """One schema in OpenAPI's words; the definitions that it names are added to `wanted`."""
    made: dict[str, Any] = {key: schema[key] for key in schema if key in KEPT or key.startswith("x-kubernetes-")}
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        wanted.append(name)
        made["$ref"] = f"#/definitions/{name}"
    kind = schema.get("type")
    if kind is not None:
        made["type"] = next(each for each in kind if each != "null") if isinstance(kind, list) else kind
    if "properties" in schema:
        made["properties"] = {name: openapi(inner, wanted) for name, inner in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = openapi(schema[key], wanted)
    return made


def main(path: Path) -> None:
    """Print the definitions, sorted by name, one a line."""
    given = json.loads(path.read_text(encoding="utf-8"))["$defs"]
    wanted = [f"{package}.{kind}" for package, kinds in KINDS.items() for kind in kinds.split()]
    wanted += [f"{name}List" for name in wanted if f"{name}List" in given]
    found: dict[str, dict[str, Any]] = {}
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = {}
        found[name] = openapi(given[name], wanted)
        if name.endswith("IntOrString"):
            found[name] |= {"type": "string", "format": "int-or-string"}
        elif name.endswith("Quantity"):
            found[name] |= {"type": "string"}
        groups = found[name].get("x-kubernetes-group-version-kind")
        if name.startswith(META) and groups:
            found[name]["x-kubernetes-group-version-kind"] = [each for each in groups if each["group"] == ""]
    lines = [f"{json.dumps(name)}:{json.dumps(found[name], separators=(',', ':'))}" for name in sorted(found)]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
