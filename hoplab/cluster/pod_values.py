"""What a pod takes from objects around it: environment variables and the files of its volumes (pure).

A container's environment is written out, or taken from the pod itself (fieldRef), a
ConfigMap or a Secret; `$(NAME)` in its command and arguments stands for a variable.
Volumes of ConfigMaps and Secrets become files.  What can't be had here is told, since a
program without its setting fails in ways that nobody understands.

Source: the API reference of core/v1 (EnvVar, EnvFromSource, Volume, VolumeMount) and
third_party/forked/golang/expansion.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hoplab.kube.objects import KubeObject
from hoplab.kube.secrets import secret_data
from hoplab.kube.types import Container, Pod

Find = Callable[[str, str, str], KubeObject | None]
"""(kind, namespace, name) -> the object, None when there is none."""

_NAME = re.compile(r"\$(?:\$|\(([^)]*)\))")
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs, as its fields say once it does."""

    ips: tuple[str, ...] = ()
    node: str = ""
    node_ip: str = ""


def environment(container: Container, pod: Pod, place: Place, find: Find) -> tuple[dict[str, str], list[str]]:
    """A container's variables, and what could not be had."""
    found: dict[str, str] = {}
    warnings: list[str] = []
    document: Any = container.document
    for source in document.get("envFrom") or ():
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            reference = source.get(key)
            if not reference:
                continue
            data = values_of(find(kind, pod.meta.namespace, reference["name"]))
            if data is None and not reference.get("optional"):
                warnings.append(f"envFrom: no {kind} is called {pod.meta.namespace}/{reference['name']}")
            found |= {f"{source.get('prefix') or ''}{name}": text for name, text in (data or {}).items()}
    for each in document.get("env") or ():
        name, given = each["name"], each.get("valueFrom")
        if not given:
            found[name] = expanded(each.get("value") or "", found)
            continue
        text, problem = _value_from(given, pod, place, find)
        if problem:
            warnings.append(f"env {name}: {problem}")
        if text is not None:
            found[name] = text
    return found, warnings


def _value_from(source: Mapping[str, Any], pod: Pod, place: Place, find: Find) -> tuple[str | None, str]:
    if "fieldRef" in source:
        path = source["fieldRef"]["fieldPath"]
        text = _field(path, pod, place)
        return text, "" if text is not None else f"the lab knows no field {path}"
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        reference = source.get(key)
        if not reference:
            continue
        data = values_of(find(kind, pod.meta.namespace, reference["name"]))
        if data is not None and reference["key"] in data:
            return data[reference["key"]], ""
        if reference.get("optional"):
            return None, ""
        name = f"{pod.meta.namespace}/{reference['name']}"
        return None, f"no {kind} is called {name}" if data is None else f"{kind} {name} has no key {reference['key']}"
    return None, f"the lab can't take a value from {', '.join(source) or 'nothing'}"


def _field(path: str, pod: Pod, place: Place) -> str | None:
    keyed = _KEYED_FIELD.fullmatch(path)
    if keyed:
        return (pod.meta.labels if keyed[1] == "labels" else pod.meta.annotations).get(keyed[2], "")
    return {
        "metadata.name": pod.meta.name,
        "metadata.namespace": pod.meta.namespace,
        "metadata.uid": pod.meta.uid,
        "spec.nodeName": place.node,
        "spec.serviceAccountName": "default",
        "status.hostIP": place.node_ip,
        "status.podIP": place.ips[0] if place.ips else "",
        "status.podIPs": ",".join(place.ips),
    }.get(path)


def values_of(obj: KubeObject | None) -> dict[str, str] | None:
    """The texts of a ConfigMap or Secret by key, None where there is none."""
    if obj is None:
        return None
    if obj.kind == "Secret":
        return {key: data.decode("utf-8", "replace") for key, data in secret_data(obj).items()}
    return dict(obj.document.get("data") or {})


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where there is such a variable, `$$` by one `$`."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _NAME.sub(one, text)


def volumes(pod: Pod, find: Find) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Mount path -> files in it, for all containers of a pod together, and what could not be had.

    A path whose only file has the name '' is a file itself (subPath).
    """
    warnings: list[str] = []
    known: dict[str, dict[str, str] | None] = {}
    for volume in pod.volumes:
        known[str(volume["name"])] = _volume(volume, pod, find, warnings)
    found: dict[str, dict[str, str]] = {}
    for container in pod.containers:
        document: Any = container.document
        for mount in document.get("volumeMounts") or ():
            files = known.get(mount["name"])
            if files is None:
                continue
            path, part = mount["mountPath"].rstrip("/"), mount.get("subPath") or ""
            if part:
                inside = {name[len(part) + 1 :]: text for name, text in files.items() if name.startswith(f"{part}/")}
                files = {"": files[part]} if part in files else inside
            if found.setdefault(path, files) != files:
                warnings.append(f"two containers mount different volumes at {path}; in the lab they share their files")
    return found, warnings


def _volume(volume: Mapping[str, Any], pod: Pod, find: Find, warnings: list[str]) -> dict[str, str] | None:
    """A volume's files by relative name, None for a kind of volume that the lab does not have."""
    if "emptyDir" in volume:
        return {}
    if "projected" in volume:
        files: dict[str, str] = {}
        for source in volume["projected"].get("sources") or ():
            files |= _source(source, "name", pod, find, volume["name"], warnings) or {}
        return files
    found = _source(volume, "secretName", pod, find, volume["name"], warnings)
    if found is None:
        kind = next((key for key in volume if key != "name"), "of no kind")
        warnings.append(f"volume {volume['name']}: the lab has no {kind} volumes; its folder is not there")
    return found


def _source(
    given: Mapping[str, Any], secret_name: str, pod: Pod, find: Find, volume: str, warnings: list[str]
) -> dict[str, str] | None:
    for kind, key, naming in (("ConfigMap", "configMap", "name"), ("Secret", "secret", secret_name)):
        reference = given.get(key)
        if reference is None:
            continue
        name = str(reference.get(naming) or "")
        data = values_of(find(kind, pod.meta.namespace, name))
        if data is None:
            if not reference.get("optional"):
                warnings.append(f"volume {volume}: no {kind} is called {pod.meta.namespace}/{name}")
            return {}
        items: Sequence[Mapping[str, Any]] = reference.get("items") or ()
        for item in items:
            if item["key"] not in data:
                warnings.append(f"volume {volume}: {kind} {pod.meta.namespace}/{name} has no key {item['key']}")
        if items:
            return {item["path"]: data[item["key"]] for item in items if item["key"] in data}
        return data
    return None
