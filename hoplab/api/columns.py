"""The columns that `kubectl get` shows for each kind, and how a cell is made, as the real printers do it.

A column of priority 1 is shown with `-o wide` only.  Cells are text or whole numbers; ages are
written by the server, in kubectl's short form.
Source: pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hoplab.api.ages import age, duration, parsed_time

Document = Mapping[str, Any]
Cell = str | int
NONE = "<none>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `priority` 0 is always shown."""

    name: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def document(self) -> dict[str, Any]:
        """The TableColumnDefinition."""
        form = "name" if self.name == "Name" else ""
        text = self.description or _DESCRIPTIONS.get(self.name, f"{self.name} of the object.")
        return {"name": self.name, "type": self.type, "format": form, "description": text, "priority": self.priority}


_DESCRIPTIONS = {
    "Name": "Name must be unique within a namespace.",
    "Age": "The time since the object was created.",
    "Containers": "Names of each container in the template.",
    "Images": "Images referenced by each container in the template.",
    "Ready": "How much of it is ready.",
    "Status": "What state it is in.",
}
Cells = Callable[[Document, datetime], list[Cell]]


def _spec(document: Document) -> Document:
    return document.get("spec") or {}


def _status(document: Document) -> Document:
    return document.get("status") or {}


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])


def _created(document: Document, now: datetime) -> str:
    return age(document["metadata"].get("creationTimestamp"), now)


def _containers(document: Document) -> tuple[str, str]:
    found = ((_spec(document).get("template") or {}).get("spec") or {}).get("containers") or ()
    return ",".join(each.get("name", "") for each in found), ",".join(each.get("image", "") for each in found)


def labels(given: Mapping[str, str] | None) -> str:
    """a=b,c=d sorted by key; <none> where there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted((given or {}).items())) or NONE


def label_selector(given: Any, empty: str = NONE) -> str:
    """A LabelSelector as text."""
    if not given:
        return empty
    parts = [(key, f"{key}={value}") for key, value in (given.get("matchLabels") or {}).items()]
    for each in given.get("matchExpressions") or ():
        key, values = each["key"], ",".join(sorted(each.get("values") or ()))
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append((key, words.get(each["operator"], f"!{key}")))
    return ",".join(text for _key, text in sorted(parts)) or empty


def _shortened(found: Sequence[str], number: int | None = None, most: int = 3) -> str:
    total = len(found) if number is None else number
    shown = ",".join(found[:most])
    return f"{shown} + {total - most} more..." if total > most else shown


def _workload(document: Document, now: datetime) -> list[Cell]:
    state = _status(document)
    return [
        _name(document),
        _spec(document).get("replicas", 0),
        state.get("replicas", 0),
        state.get("readyReplicas", 0),
        _created(document, now),
        *_containers(document),
        _selector(document),
    ]


def _selector(document: Document) -> str:
    selector = _spec(document).get("selector")
    return labels(selector) if document["kind"] == "ReplicationController" else label_selector(selector)


def _deployment(document: Document, now: datetime) -> list[Cell]:
    state = _status(document)
    return [
        _name(document),
        f"{state.get('readyReplicas', 0)}/{_spec(document).get('replicas', 0)}",
        state.get("updatedReplicas", 0),
        state.get("availableReplicas", 0),
        _created(document, now),
        *_containers(document),
        label_selector(_spec(document).get("selector"), ""),
    ]


def _daemon_set(document: Document, now: datetime) -> list[Cell]:
    state = _status(document)
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    node_selector = ((_spec(document).get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [
        _name(document),
        *(state.get(name, 0) for name in (*names, "numberAvailable")),
        labels(node_selector),
        _created(document, now),
        *_containers(document),
        label_selector(_spec(document).get("selector")),
    ]


def _stateful_set(document: Document, now: datetime) -> list[Cell]:
    ready = f"{_status(document).get('readyReplicas', 0)}/{_spec(document).get('replicas', 0)}"
    return [_name(document), ready, _created(document, now), *_containers(document)]


def _condition(document: Document, kind: str) -> bool:
    found = _status(document).get("conditions") or ()
    return any(each.get("type") == kind and each.get("status") == "True" for each in found)


def _job(document: Document, now: datetime) -> list[Cell]:
    spec, state = _spec(document), _status(document)
    done, wanted, parallel = state.get("succeeded", 0), spec.get("completions"), spec.get("parallelism", 0)
    completions = (
        f"{done}/{wanted}" if wanted is not None else f"{done}/1" + (f" of {parallel}" if parallel > 1 else "")
    )
    started, ended = parsed_time(state.get("startTime")), parsed_time(state.get("completionTime"))
    took = duration(((ended or now) - started).total_seconds()) if started else ""
    words = (("Complete", "Complete"), ("Failed", "Failed"))
    word = next((text for kind, text in words if _condition(document, kind)), "")
    if not word and document["metadata"].get("deletionTimestamp"):
        word = "Terminating"
    word = word or next((kind for kind in ("Suspended", "FailureTarget") if _condition(document, kind)), "Running")
    age_ = _created(document, now)
    return [
        _name(document),
        word,
        completions,
        took,
        age_,
        *_containers(document),
        label_selector(spec.get("selector")),
    ]


def _addresses(document: Document) -> str:
    ingress = (_status(document).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({each.get("ip") or each.get("hostname") or "" for each in ingress} - {""}))


def _external(document: Document) -> str:
    spec = _spec(document)
    own = ",".join(spec.get("externalIPs") or ())
    kind = spec.get("type")
    if kind == "LoadBalancer":
        return ",".join(each for each in (_addresses(document), own) if each) or "<pending>"
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    return own or NONE


def _service(document: Document, now: datetime) -> list[Cell]:
    spec = _spec(document)
    ports = ",".join(
        f"{port['port']}:{port['nodePort']}/{port.get('protocol', 'TCP')}"
        if port.get("nodePort")
        else f"{port['port']}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    )
    ip = (spec.get("clusterIPs") or [spec.get("clusterIP") or NONE])[0]
    about = [_name(document), str(spec.get("type", "")), ip, _external(document), ports or NONE]
    return [*about, _created(document, now), labels(spec.get("selector"))]


def _endpoints(document: Document, now: datetime) -> list[Cell]:
    found: list[str] = []
    for subset in document.get("subsets") or ():
        ips = [each["ip"] for each in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        found += [_joined(ip, port["port"]) for port in ports for ip in ips] if ports else ips
    return [_name(document), _shortened(found) if document.get("subsets") else NONE, _created(document, now)]


def _joined(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _slice(document: Document, now: datetime) -> list[Cell]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in document.get("ports") or ()]
    addresses = [address for each in document.get("endpoints") or () for address in each.get("addresses") or ()]
    texts = [_shortened(ports) or "<unset>", _shortened(addresses) or "<unset>"]
    return [_name(document), str(document.get("addressType", "")), *texts, _created(document, now)]


def _ingress(document: Document, now: datetime) -> list[Cell]:
    spec = _spec(document)
    rules = spec.get("rules") or ()
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    named = ",".join(hosts[:3]) or "*"
    if len(hosts) >= 3 and len(rules) > 3:
        named += f" + {len(rules) - 3} more..."
    ports = "80, 443" if spec.get("tls") else "80"
    class_name = spec.get("ingressClassName") or NONE
    return [_name(document), class_name, named, _addresses(document), ports, _created(document, now)]


def _ingress_class(document: Document, now: datetime) -> list[Cell]:
    given = _spec(document).get("parameters")
    parameters = NONE
    if given:
        group = f".{given['apiGroup']}" if given.get("apiGroup") else ""
        parameters = f"{given.get('kind', '')}{group}/{given.get('name', '')}"
    return [_name(document), str(_spec(document).get("controller", "")), parameters, _created(document, now)]


def _node(document: Document, now: datetime) -> list[Cell]:
    state = _status(document)
    conditions = {each.get("type"): each.get("status") for each in state.get("conditions") or ()}
    words = [{"True": "Ready"}.get(conditions["Ready"], "NotReady") if "Ready" in conditions else "Unknown"]
    if _spec(document).get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    given = document["metadata"].get("labels") or {}
    roles = {key.removeprefix(prefix) for key in given if key.startswith(prefix)} - {""}
    roles |= {given["kubernetes.io/role"]} if given.get("kubernetes.io/role") else set()
    info = state.get("nodeInfo") or {}
    addresses = {each.get("type"): each.get("address") for each in reversed(state.get("addresses") or ())}
    return [
        _name(document),
        ",".join(words),
        ",".join(sorted(roles)) or NONE,
        _created(document, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        *(info.get(name) or "<unknown>" for name in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


def _event(document: Document, now: datetime) -> list[Cell]:
    about = document.get("involvedObject") or {}
    series = document.get("series") or {}
    first = age(document.get("firstTimestamp") or document.get("eventTime"), now)
    seen = series.get("lastObservedTime") or document.get("lastTimestamp")
    target = f"{about.get('kind', '').lower()}/{about['name']}" if about.get("name") else about.get("kind", "").lower()
    source = document.get("source") or {}
    component = source.get("component") or document.get("reportingComponent") or ""
    host = source.get("host") or document.get("reportingInstance") or ""
    return [
        age(seen, now) if seen else first,
        *(str(document.get(name) or "") for name in ("type", "reason")),
        target,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        str(document.get("message") or "").strip(),
        first,
        series.get("count") or document.get("count") or 1,
        _name(document),
    ]


def _counted(*fields: str) -> Cells:
    """Name, how many entries the fields have together, age."""

    def cells(document: Document, now: datetime) -> list[Cell]:
        number = sum(len(document.get(field) or ()) for field in fields)
        return [_name(document), number, _created(document, now)]

    return cells


def _secret(document: Document, now: datetime) -> list[Cell]:
    return [_name(document), str(document.get("type", "")), len(document.get("data") or ()), _created(document, now)]


def _namespace(document: Document, now: datetime) -> list[Cell]:
    return [_name(document), str(_status(document).get("phase", "")), _created(document, now)]


def _network_policy(document: Document, now: datetime) -> list[Cell]:
    return [_name(document), label_selector(_spec(document).get("podSelector")), _created(document, now)]


def _lease(document: Document, now: datetime) -> list[Cell]:
    return [_name(document), str(_spec(document).get("holderIdentity") or ""), _created(document, now)]


def _revision(document: Document, now: datetime) -> list[Cell]:
    owners = document["metadata"].get("ownerReferences") or ()
    owner = next((each for each in owners if each.get("controller")), None)
    group = owner["apiVersion"].rpartition("/")[0] if owner else ""
    kind = ".".join(filter(None, (owner["kind"].lower(), group))) if owner else ""
    controller = f"{kind}/{owner['name']}" if owner else NONE
    return [_name(document), controller, document.get("revision", 0), _created(document, now)]


def _scale(document: Document, now: datetime) -> list[Cell]:
    return [
        _name(document),
        _spec(document).get("replicas", 0),
        _status(document).get("replicas", 0),
        _created(document, now),
    ]


def _plain(document: Document, now: datetime) -> list[Cell]:
    created = document["metadata"].get("creationTimestamp")
    return [_name(document), str(created or "<unknown>")]


def _columns(text: str) -> tuple[Column, ...]:
    """Columns written as words: `+` before a name for -o wide, `#` behind it for a number; _ is a space."""
    made = []
    for word in text.split():
        name = word.strip("+#").replace("_", " ")
        made.append(Column(name, "integer" if word.endswith("#") else "string", int(word.startswith("+"))))
    return tuple(made)


_REPLICAS = "Name Desired# Current# Ready# Age +Containers +Images +Selector"
BY_KIND: Mapping[str, tuple[tuple[Column, ...], Cells]] = {
    "ReplicationController": (_columns(_REPLICAS), _workload),
    "ReplicaSet": (_columns(_REPLICAS), _workload),
    "Deployment": (_columns("Name Ready Up-to-date# Available# Age +Containers +Images +Selector"), _deployment),
    "DaemonSet": (
        _columns(
            "Name Desired# Current# Ready# Up-to-date# Available# Node_Selector Age +Containers +Images +Selector"
        ),
        _daemon_set,
    ),
    "StatefulSet": (_columns("Name Ready Age +Containers +Images"), _stateful_set),
    "ControllerRevision": (_columns("Name Controller Revision# Age"), _revision),
    "Job": (_columns("Name Status Completions Duration Age +Containers +Images +Selector"), _job),
    "Service": (_columns("Name Type Cluster-IP External-IP Port(s) Age +Selector"), _service),
    "Endpoints": (_columns("Name Endpoints Age"), _endpoints),
    "EndpointSlice": (_columns("Name AddressType Ports Endpoints Age"), _slice),
    "Ingress": (_columns("Name Class Hosts Address Ports Age"), _ingress),
    "IngressClass": (_columns("Name Controller Parameters Age"), _ingress_class),
    "Node": (
        _columns(
            "Name Status Roles Age Version +Internal-IP +External-IP +OS-Image +Kernel-Version +Container-Runtime"
        ),
        _node,
    ),
    "Event": (
        _columns("Last_Seen Type Reason Object +Subobject +Source Message +First_Seen +Count# +Name"),
        _event,
    ),
    "Namespace": (_columns("Name Status Age"), _namespace),
    "Secret": (_columns("Name Type Data# Age"), _secret),
    "ServiceAccount": (_columns("Name Secrets# Age"), _counted("secrets")),
    "ConfigMap": (_columns("Name Data# Age"), _counted("data", "binaryData")),
    "NetworkPolicy": (_columns("Name Pod-Selector Age"), _network_policy),
    "Lease": (_columns("Name Holder Age"), _lease),
}
SCALE: tuple[tuple[Column, ...], Cells] = (_columns("Name Desired# Available# Age"), _scale)
PLAIN: tuple[tuple[Column, ...], Cells] = (_columns("Name Created_At"), _plain)
"""For what has no printer of its own."""
