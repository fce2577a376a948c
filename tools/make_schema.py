"""Makes hoplab/kube/schema.json from lightkube-models: the fields of each served kind, their types, which are required.

A development tool, run by hand when Kubernetes' API moves on; the lab itself needs
none of it.  lightkube-models is generated from Kubernetes' OpenAPI document, one
class a type, and is read here as text:

    pip download --no-deps lightkube-models && unzip lightkube_models*.whl -d models
    python tools/make_schema.py models/lightkube/models > hoplab/kube/schema.json

A field's type is written as int, str, bool, float, dict, any, time, intstr, quantity,
@TYPE for an object, [..] for a list, {..} for a map; a trailing ! marks a required field.
The package says only "dict" for maps: what is in them stands in MAPS below.  Some fields
that the OpenAPI document calls required may be missing on the wire (OPTIONAL below).
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

KINDS = {
    "v1": (
        "core_v1",
        "Namespace Node Pod ReplicationController Service Endpoints ConfigMap Secret ServiceAccount Event",
    ),
    "apps/v1": ("apps_v1", "ReplicaSet Deployment DaemonSet StatefulSet ControllerRevision"),
    "batch/v1": ("batch_v1", "Job"),
    "discovery.k8s.io/v1": ("discovery_v1", "EndpointSlice"),
    "networking.k8s.io/v1": ("networking_v1", "Ingress IngressClass NetworkPolicy"),
    "coordination.k8s.io/v1": ("coordination_v1", "Lease"),
}
PLAIN = {
    "int": "int",
    "str": "str",
    "bool": "bool",
    "float": "float",
    "dict": "dict",
    "Dict": "dict",
    "object": "any",
    "Any": "any",
    "Time": "time",
    "MicroTime": "time",
    "IntOrString": "intstr",
    "Quantity": "quantity",
}

TEXT_MAPS = (
    *("labels", "annotations", "matchLabels", "selector", "nodeSelector", "data", "binaryData", "stringData"),
    *("options", "volumeAttributes", "deprecatedTopology", "userAnnotations", "allocatedResourceStatuses"),
)
QUANTITY_MAPS = ("limits", "requests", "capacity", "allocatable", "overhead", "allocatedResources")
MAPS = {**dict.fromkeys(TEXT_MAPS, "{str}"), **dict.fromkeys(QUANTITY_MAPS, "{quantity}")}
OPTIONAL = {"discovery_v1.EndpointSlice.endpoints", "core_v1.Event.metadata"}

Classes = dict[str, dict[str, tuple[str, bool]]]


def read(folder: Path) -> Classes:
    """module.Class -> field -> (annotation, required), of every class in the folder."""
    found: Classes = {}
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                fields = found[f"{path.stem}.{node.name}"] = {}
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        annotation = ast.literal_eval(item.annotation)
                        name = item.target.id.rstrip("_")
                        if isinstance(item.value, ast.Call):
                            for keyword in item.value.keywords:
                                if keyword.arg == "metadata":
                                    name = ast.literal_eval(keyword.value).get("json", name)
                        fields[name] = (annotation, not annotation.startswith("Optional["))
    return found


def compact(annotation: str, module: str, classes: Classes, wanted: list[str]) -> str:
    """One annotation in the schema's short form; classes that it names are added to `wanted`."""
    text = annotation.removeprefix("Optional[").removesuffix("]") if annotation.startswith("Optional[") else annotation
    if text.startswith("List["):
        return f"[{compact(text[5:-1], module, classes, wanted)}]"
    if text.startswith("Dict["):
        return f"{{{compact(text[5:-1].split(',', 1)[1].strip(), module, classes, wanted)}}}"
    last = text.rpartition(".")[2]
    full = text if "." in text else f"{module}.{text}"
    if full in classes and last not in PLAIN:
        wanted.append(full)
        return f"@{full}"
    # Aliases (`FieldsV1 = Dict`, types without fields) have no class: anything goes there.
    return PLAIN.get(last, "any")


def main(folder: Path) -> None:
    """Print the schema of every kind and all that it reaches."""
    classes = read(folder)
    kinds = {
        f"{version}/{kind}": f"{module}.{kind}" for version, (module, names) in KINDS.items() for kind in names.split()
    }
    wanted = list(kinds.values())
    types: dict[str, dict[str, str]] = {}
    while wanted:
        name = wanted.pop()
        if name not in types:
            module = name.partition(".")[0]
            types[name] = {}
            for field, (annotation, required) in classes[name].items():
                text = compact(annotation, module, classes, wanted)
                must = required and f"{name}.{field}" not in OPTIONAL
                types[name][field] = (MAPS.get(field, text) if text == "dict" else text) + ("!" if must else "")
    json.dump({"kinds": kinds, "types": dict(sorted(types.items()))}, sys.stdout, separators=(",", ":"), sort_keys=True)
    print()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
