"""Makes hoplab/api/protobuf.json: the fields of the messages that kubectl sends as protobuf, by number.

A development tool.  kubectl's typed commands (create deployment, create service, auth can-i, drain)
send Kubernetes' own protobuf since 1.32.  The messages are described in .proto files that
Debian's source package of Kubernetes has; field numbers never change, so its age does not matter:

    apt-get source --download-only kubernetes && tar xf kubernetes_*.orig.tar.gz
    python tools/make_protobuf.py kubernetes-*/staging/src/k8s.io hoplab/api/openapi.json > hoplab/api/protobuf.json

A field is written as "name type", the type being int, bool, str, bytes, @MESSAGE, [..] for a list,
{..} for a map with text keys; a name of "-" stands for a message whose fields are those of what is around it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PACKAGES = {
    "k8s.io.api.core.v1": "api/core/v1",
    "k8s.io.api.apps.v1": "api/apps/v1",
    "k8s.io.api.batch.v1": "api/batch/v1",
    "k8s.io.api.networking.v1": "api/networking/v1",
    "k8s.io.api.policy.v1": "api/policy/v1beta1",
    "k8s.io.api.authorization.v1": "api/authorization/v1",
    "k8s.io.apimachinery.pkg.apis.meta.v1": "apimachinery/pkg/apis/meta/v1",
    "k8s.io.apimachinery.pkg.api.resource": "apimachinery/pkg/api/resource",
    "k8s.io.apimachinery.pkg.util.intstr": "apimachinery/pkg/util/intstr",
    "k8s.io.apimachinery.pkg.runtime": "apimachinery/pkg/runtime",
}
ROOTS = (
    *(f"k8s.io.api.core.v1.{kind}" for kind in ("Namespace", "Node", "Pod", "ReplicationController", "Service")),
    *(f"k8s.io.api.core.v1.{kind}" for kind in ("Endpoints", "ConfigMap", "Secret", "ServiceAccount", "Event")),
    *(f"k8s.io.api.core.v1.{kind}" for kind in ("Binding",)),
    *(f"k8s.io.api.apps.v1.{kind}" for kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet")),
    "k8s.io.api.batch.v1.Job",
    *(f"k8s.io.api.networking.v1.{kind}" for kind in ("Ingress", "IngressClass", "NetworkPolicy")),
    "k8s.io.api.policy.v1.Eviction",
    *(f"k8s.io.api.authorization.v1.{kind}" for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview")),
    "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions",
)
PLAIN = {"string": "str", "bool": "bool", "bytes": "bytes", "int32": "int", "int64": "int"}
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(optional|repeated|map<string, ?)\s*([\w.]+)>?\s+(\w+) = (\d+);", re.MULTILINE)


def main(folder: Path, openapi: Path) -> None:
    """Print the messages that the roots reach."""
    properties = {name: schema.get("properties", {}) for name, schema in json.loads(openapi.read_text()).items()}
    texts = {}
    for package, place in PACKAGES.items():
        source = (folder / place / "generated.proto").read_text(encoding="utf-8")
        for name, body in _MESSAGE.findall(source):
            texts[f"{package}.{name}"] = body
    found: dict[str, dict[str, str]] = {}
    wanted = list(ROOTS)
    while wanted:
        message = wanted.pop()
        if message in found:
            continue
        package = message.rpartition(".")[0]
        known = properties.get(message.replace("k8s.io.", "io.k8s.", 1))
        fields = found[message] = {}
        for form, kind, name, number in _FIELD.findall(texts[message]):
            text = PLAIN.get(kind)
            if text is None:
                full = kind if kind.startswith("k8s.io.") else f"{package}.{kind}"
                full = full.replace("policy.v1beta1", "policy.v1")
                wanted.append(full)
                text = f"@{full}"
            inline = known is not None and name not in known and text.startswith("@") and form == "optional"
            shown = f"[{text}]" if form == "repeated" else f"{{{text}}}" if form.startswith("map") else text
            fields[number] = f"{'-' if inline else name} {shown}"
    lines = [f"{json.dumps(name)}:{json.dumps(found[name], separators=(',', ':'))}" for name in sorted(found)]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
