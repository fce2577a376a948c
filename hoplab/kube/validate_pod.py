"""Pods, and the controllers that make pods from a template, as the API server validates them.

Of a pod's many fields those are looked at that the lab acts on or that a beginner gets
wrong; the types of all the others are checked by hoplab.kube.schema.  Source:
pkg/apis/core/validation/validation.go (ValidatePodSpec, ValidatePodTemplateSpecForRC),
pkg/apis/apps/validation/validation.go, pkg/apis/batch/validation/validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hoplab.kube import formats, quantities
from hoplab.kube.formats import PROTOCOLS, REQUIRED, Finding, duplicate, each_invalid, enum, forbidden, invalid
from hoplab.kube.labels import Selector, selector_findings
from hoplab.kube.problems import Path

_Doc = Mapping[str, Any]

REQUESTED_IP = "hoplab.dev/ip"
RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
PROGRESS_DEADLINE_S = 600
"""When nothing is said."""
_PERCENT = re.compile(r"[0-9]+%\Z")
_NO_MATCH = "`selector` does not match template `labels`"


def pod(document: _Doc) -> Iterator[Finding]:
    """ValidatePod, as far as the lab acts on it."""
    yield from _metadata(document.get("metadata") or {}, ("metadata",))
    yield from pod_spec(document.get("spec") or {}, ("spec",))


def _metadata(meta: _Doc, at: Path) -> Iterator[Finding]:
    wanted = (meta.get("annotations") or {}).get(REQUESTED_IP)
    if wanted:
        yield from each_invalid((*at, "annotations", REQUESTED_IP), wanted, formats.unspecial_ip(wanted))


def pod_spec(spec: _Doc, at: Path) -> Iterator[Finding]:
    """Everything of a pod's spec but what containers have."""
    containers = spec.get("containers") or ()
    if not containers:
        yield (*at, "containers"), REQUIRED
    volumes: set[str] = set()
    for number, volume in enumerate(spec.get("volumes") or ()):
        here: Path = (*at, "volumes", number, "name")
        yield from each_invalid(here, volume["name"], formats.dns_label(volume["name"]))
        if volume["name"] in volumes:
            yield here, duplicate(volume["name"])
        volumes.add(volume["name"])
    names: set[str] = set()
    host_network = bool(spec.get("hostNetwork"))
    for group in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(group) or ()):
            yield from _container(container, (*at, group, number), names, volumes, host_network)
    yield from enum((*at, "restartPolicy"), spec.get("restartPolicy"), RESTART_POLICIES)
    yield from enum((*at, "dnsPolicy"), spec.get("dnsPolicy"), DNS_POLICIES)
    if spec.get("dnsPolicy") == "None":
        yield from _own_dns(spec.get("dnsConfig"), (*at, "dnsConfig"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 1 << 31:
        yield (*at, "activeDeadlineSeconds"), invalid(deadline, f"must be between 1 and {(1 << 31) - 1}, inclusive")
    for number, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration(toleration, (*at, "tolerations", number))
    yield from formats.not_negative((*at, "terminationGracePeriodSeconds"), spec.get("terminationGracePeriodSeconds"))
    yield from formats.labels(spec.get("nodeSelector"), (*at, "nodeSelector"))
    for field, check in (
        ("nodeName", formats.dns_subdomain),
        ("hostname", formats.dns_label),
        ("subdomain", formats.dns_label),
        ("serviceAccountName", formats.dns_subdomain),
    ):
        if spec.get(field):
            yield from each_invalid((*at, field), spec[field], check(spec[field]))
    for number, alias in enumerate(spec.get("hostAliases") or ()):
        yield from each_invalid((*at, "hostAliases", number, "ip"), alias["ip"], formats.ip(alias["ip"]))


def _own_dns(config: _Doc | None, at: Path) -> Iterator[Finding]:
    if config is None:
        yield at, f"{REQUIRED}: must provide `dnsConfig` when `dnsPolicy` is None"
    elif not config.get("nameservers"):
        yield (*at, "nameservers"), f"{REQUIRED}: must provide at least one DNS nameserver when `dnsPolicy` is None"


def _toleration(toleration: _Doc, at: Path) -> Iterator[Finding]:
    """ValidateTolerations."""
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key:
        yield from each_invalid((*at, "key"), key, formats.qualified_name(key))
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield (*at, "operator"), invalid(operator, why)
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield (*at, "effect"), invalid(toleration.get("effect") or "", why)
    if operator == "Equal":
        value = toleration.get("value") or ""
        yield from each_invalid((*at, "operator"), value, formats.label_value(value))
    elif operator == "Exists" and toleration.get("value"):
        yield (*at, "operator"), invalid(dict(toleration), "value must be empty when `operator` is 'Exists'")
    yield from enum((*at, "operator"), operator, ("Equal", "Exists"))
    yield from enum((*at, "effect"), toleration.get("effect"), EFFECTS)


def _container(container: _Doc, at: Path, names: set[str], volumes: set[str], host_network: bool) -> Iterator[Finding]:
    name = container["name"]
    if not name:
        yield (*at, "name"), REQUIRED
    else:
        yield from each_invalid((*at, "name"), name, formats.dns_label(name))
    if name in names:
        yield (*at, "name"), duplicate(name)
    names.add(name)
    image = container.get("image")
    if not image:
        yield (*at, "image"), REQUIRED
    elif image != image.strip():
        yield (*at, "image"), invalid(image, "must not have leading or trailing whitespace")
    yield from enum((*at, "imagePullPolicy"), container.get("imagePullPolicy"), PULL_POLICIES)
    yield from _container_ports(container.get("ports") or (), (*at, "ports"), host_network)
    for number, variable in enumerate(container.get("env") or ()):
        here: Path = (*at, "env", number)
        if not variable["name"]:
            yield (*here, "name"), REQUIRED
        else:
            yield from each_invalid((*here, "name"), variable["name"], formats.env_name(variable["name"]))
        if variable.get("value") and variable.get("valueFrom"):
            yield (*here, "valueFrom"), invalid("", "may not be specified when `value` is not empty")
    paths: set[str] = set()
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        here = (*at, "volumeMounts", number)
        if mount["name"] not in volumes:
            yield (*here, "name"), f'Not found: "{mount["name"]}"'
        path = mount["mountPath"]
        if not path:
            yield (*here, "mountPath"), REQUIRED
        if path in paths:
            yield (*here, "mountPath"), invalid(path, "must be unique")
        paths.add(path)
    for probe in PROBES:
        if container.get(probe) is not None:
            yield from _probe(container[probe], (*at, probe))
            if probe != "readinessProbe" and container[probe].get("successThreshold") not in (None, 0, 1):
                yield (*at, probe, "successThreshold"), invalid(container[probe]["successThreshold"], "must be 1")
    yield from _resources(container.get("resources") or {}, (*at, "resources"))


def _resources(resources: _Doc, at: Path) -> Iterator[Finding]:
    """ValidateResourceRequirements."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if quantities.parse(amount) < 0:
                yield (*at, field, name), invalid(str(amount), "must be greater than or equal to 0")
            if field == "requests" and name in limits and quantities.parse(amount) > quantities.parse(limits[name]):
                why = f"must be less than or equal to {name} limit of {limits[name]}"
                yield (*at, field), invalid(str(amount), why)


def _container_ports(ports: Sequence[_Doc], at: Path, host_network: bool) -> Iterator[Finding]:
    names: set[str] = set()
    for number, port in enumerate(ports):
        here: Path = (*at, number)
        name, given = port.get("name"), port["containerPort"]
        if name:
            yield from each_invalid((*here, "name"), name, formats.port_name(name))
            if name in names:
                yield (*here, "name"), duplicate(name)
            names.add(name)
        yield from each_invalid((*here, "containerPort"), given, formats.port_number(given))
        on_host = port.get("hostPort") or 0
        if on_host:
            yield from each_invalid((*here, "hostPort"), on_host, formats.port_number(on_host))
            if host_network and on_host != given:
                yield (*here, "containerPort"), invalid(given, "must match `hostPort` when `hostNetwork` is true")
        yield from enum((*here, "protocol"), port.get("protocol"), PROTOCOLS)


def _probe(probe: _Doc, at: Path) -> Iterator[Finding]:
    handlers = [each for each in HANDLERS if probe.get(each) is not None]
    if not handlers:
        yield at, f"{REQUIRED}: must specify a handler type"
    for second in handlers[1:]:
        yield (*at, second), forbidden("may not specify more than 1 handler type")
    for handler in handlers[:1]:
        port = probe[handler].get("port")
        if port is not None:
            yield from each_invalid((*at, handler, "port"), port, formats.port_number_or_name(port))
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from formats.not_negative((*at, field), probe.get(field))


def workload(document: _Doc) -> Iterator[Finding]:
    """ReplicationController, ReplicaSet, Deployment, DaemonSet, StatefulSet, Job."""
    kind = document["kind"]
    spec = document.get("spec") or {}
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit", "parallelism", "completions", "backoffLimit"):
        yield from formats.not_negative(("spec", field), spec.get(field))
    template = spec.get("template") or {}
    meta = template.get("metadata") or {}
    at: Path = ("spec", "template")
    if not template:
        yield at, REQUIRED
        return
    if kind != "Job":
        yield from _selects_template(kind, spec, meta.get("labels") or {})
    yield from formats.labels(meta.get("labels"), (*at, "metadata", "labels"))
    yield from _metadata(meta, (*at, "metadata"))
    yield from pod_spec(template.get("spec") or {}, (*at, "spec"))
    yield from _restart_policy(kind, (template.get("spec") or {}).get("restartPolicy"), (*at, "spec", "restartPolicy"))
    yield from _strategy(kind, spec)
    deadline, least = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    deadline = PROGRESS_DEADLINE_S if deadline is None else deadline
    if kind == "Deployment" and deadline <= least:
        yield ("spec", "progressDeadlineSeconds"), invalid(deadline, "must be greater than minReadySeconds")


def _selects_template(kind: str, spec: _Doc, labels: Mapping[str, str]) -> Iterator[Finding]:
    given = spec.get("selector")
    at: Path = ("spec", "selector")
    by_map = kind == "ReplicationController"
    found = list(formats.labels(given, at) if by_map else selector_findings(given, at))
    yield from found
    if found:
        return
    selector = Selector.from_map(given or labels) if by_map else Selector.from_document(given)
    if given is None and not by_map:
        yield at, REQUIRED
        yield ("spec", "template", "metadata", "labels"), invalid(dict(labels), _NO_MATCH)
    elif selector.empty:
        yield at, REQUIRED if by_map else invalid(given, f"empty selector is invalid for {kind}")
    elif not selector.matches({key: value or "" for key, value in labels.items()}):
        yield ("spec", "template", "metadata", "labels"), invalid(dict(labels), _NO_MATCH)


def _restart_policy(kind: str, policy: str | None, at: Path) -> Iterator[Finding]:
    if kind == "Job":
        if policy in (None, "", "Always"):
            yield at, f'{REQUIRED}: valid values: "OnFailure", "Never"'
    elif policy in ("Never", "OnFailure"):
        yield at, formats.unsupported(policy, ("Always",))


def _strategy(kind: str, spec: _Doc) -> Iterator[Finding]:
    field, types = {
        "Deployment": ("strategy", ("Recreate", "RollingUpdate")),
        "DaemonSet": ("updateStrategy", ("OnDelete", "RollingUpdate")),
        "StatefulSet": ("updateStrategy", ("OnDelete", "RollingUpdate")),
    }.get(kind, ("", ()))
    policy = spec.get("podManagementPolicy")
    if kind == "StatefulSet" and policy not in (None, "", "OrderedReady", "Parallel"):
        yield ("spec", "podManagementPolicy"), invalid(policy, "must be 'OrderedReady' or 'Parallel'")
    strategy = spec.get(field) or {}
    yield from enum(("spec", field, "type"), strategy.get("type"), types)
    rolling = strategy.get("rollingUpdate")
    if kind != "Deployment" or not rolling:
        return
    at: Path = ("spec", field, "rollingUpdate")
    if strategy.get("type") == "Recreate":
        yield at, forbidden("may not be specified when strategy `type` is 'Recreate'")
        return
    for key in ("maxSurge", "maxUnavailable"):
        value = rolling.get(key)
        if isinstance(value, str) and not _PERCENT.match(value):
            yield (
                (*at, key),
                invalid(value, formats.SAY_PERCENT),
            )
        elif isinstance(value, int):
            yield from formats.not_negative((*at, key), value)
    if all(rolling.get(key) in (0, "0%") for key in ("maxSurge", "maxUnavailable")):
        yield (*at, "maxUnavailable"), invalid(rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
