"""What a user may call a place in the lab: `client`, `lb`, `node1`, `pod/NAME`, `svc/NAME[:PORT]`, `IP[:PORT]`.

`pod/NAMESPACE/NAME` is as good as `-n NAMESPACE`.  Pure: the words are read here, and
held against what the lab has; a name that nothing has is answered with the nearest one.
Source of the grammar: kubectl's TYPE/NAME, and
RFC 3986's brackets around an IPv6 address that a port follows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hoplab.errors import InputError, meant
from hoplab.kube.types import Service

Kind = Literal["machine", "pod", "service", "address"]
PREFIXES: Mapping[str, Kind] = {
    "pod": "pod",
    "pods": "pod",
    "po": "pod",
    "svc": "service",
    "service": "service",
    "services": "service",
    "node": "machine",
    "nodes": "machine",
    "no": "machine",
}
PORTLESS = ("icmp",)


@dataclass(frozen=True, slots=True)
class Target:
    """A place as it was written: `port` is a number or a Service port's name, '' for none."""

    kind: Kind
    name: str
    port: str = ""

    def within(self, namespace: str) -> tuple[str, str]:
        """Kubernetes namespace and name; what the target itself says (pod/NAMESPACE/NAME) comes first."""
        given, slash, name = self.name.partition("/")
        return (given, name) if slash else (namespace, self.name)

    def __str__(self) -> str:
        prefix = {"pod": "pod/", "service": "svc/"}.get(self.kind, "")
        name = f"[{self.name}]" if self.port and ":" in self.name else self.name
        return f"{prefix}{name}" + (f":{self.port}" if self.port else "")


def parse(text: str) -> Target:
    """Read a TARGET, FROM or TO.  Raises InputError that tells what one looks like."""
    kind_word, slash, rest = text.partition("/")
    if slash:
        kind = PREFIXES.get(kind_word)
        if kind is None:
            near = meant(kind_word, PREFIXES, 0.3)
            raise _no_target(text, f"{kind_word!r} is no kind of thing here" + _did_you_mean(near, f"/{rest}"))
        name, port = _split(rest, text)
        if not all(name.split("/")) or name.count("/") > (kind != "machine"):
            raise _no_target(text, f"{name!r} is no NAME and no NAMESPACE/NAME")
        return Target(kind, name, port)
    address = _address(text)
    if address is not None:
        return address
    name, port = _split(text, text)
    return Target("machine", name, port)


def _address(text: str) -> Target | None:
    """`10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`; None when it is none of these."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _no_target(text, "an IPv6 address in brackets ends with ] and may have :PORT behind it")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        if text.startswith("[") or (host.count(".") == 3 and host.replace(".", "").isdigit()):
            raise _no_target(text, f"{host!r} is no IP address") from None
        return None
    return Target("address", str(found), _port(port, text))


def _split(rest: str, text: str) -> tuple[str, str]:
    name, colon, port = rest.partition(":")
    if not name:
        raise _no_target(text, "the name is missing")
    if colon and not port:
        raise _no_target(text, "the port behind ':' is missing")
    return name, _port(port, text)


def _port(port: str, text: str) -> str:
    if port.isdigit() and not 1 <= int(port) <= 65535:
        raise _no_target(text, f"port {port} is not between 1 and 65535")
    return port


def _no_target(text: str, why: str) -> InputError:
    return InputError(f"{text!r}: {why}. Expected client, lb, node1, pod/NAME, svc/NAME[:PORT] or an address IP[:PORT]")


def _did_you_mean(near: str, rest: str = "") -> str:
    return f". Did you mean {near}{rest}?" if near else ""


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of the lab that programs run and probes start in.

    `name` is the lab's own for it (node1, pod/a, pod/kube-system/dns), `ports` are what listens there by protocol.
    """

    name: str
    role: str
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the lab has, for names to be held against."""

    places: tuple[Place, ...]
    services: tuple[Service, ...] = ()

    def place(self, target: Target, namespace: str = "default") -> Place:
        """The namespace that a target means.  Raises InputError with the nearest name."""
        if target.kind == "service":
            raise InputError(f"{target}: nothing runs in a Service; name a pod, a node, client or lb")
        if target.kind == "address":
            found = [place for place in self.places if target.name in place.addresses]
            if not found:
                raise InputError(f"{target}: nothing in the lab has the address {target.name}")
            return found[0]
        namespace, name = target.within(namespace)
        wanted = target.name if target.kind == "machine" else pod_place(name, namespace)
        exact = [place for place in self.places if place.name == wanted]
        if not exact and target.kind == "pod":
            # A workload's pod by the beginning of its name, where only one has it.
            exact = [place for place in self.places if place.name.startswith(f"{wanted}-")]
        if len(exact) == 1:
            return exact[0]
        if exact:
            raise InputError(f"{target}: several pods are called so: {_names(exact)}")
        raise self._unknown(target, namespace)

    def _unknown(self, target: Target, namespace: str) -> InputError:
        namespace, name = target.within(namespace)
        if target.kind == "pod":
            there = [p for p in self.places if p.role == "pod"]
            inside = {pod_name(p.name)[1]: p.name for p in there if pod_name(p.name)[0] == namespace}
            near = meant(name, inside, 0.5)
            elsewhere = [p.name for p in there if pod_name(p.name)[1] == name]
            hint = f". Did you mean {inside[near]}?" if near else ""
            if elsewhere and not near:
                hint = f". There is one in namespace {pod_name(elsewhere[0])[0]}: say -n {pod_name(elsewhere[0])[0]}"
            known = ", ".join(inside) or "none"
            return InputError(
                f"no pod is called {target.name!r} in namespace {namespace!r}{hint} (pods there: {known})"
            )
        machines = [place.name for place in self.places if place.role != "pod"]
        candidates = [*machines, *(place.name for place in self.places if place.role == "pod")]
        near = meant(target.name, candidates, 0.5)
        pods = [place.name for place in self.places if place.role == "pod" and place.name == f"pod/{target.name}"]
        hint = _did_you_mean(pods[0] if pods else near)
        return InputError(f"the lab has no {target.name!r}{hint} (it has {', '.join(machines)}; pods are pod/NAME)")

    def service(self, target: Target, namespace: str) -> Service:
        """The Service that a target means.  Raises InputError with the nearest name."""
        namespace, name = target.within(namespace)
        mine = {s.meta.name: s for s in self.services if s.meta.namespace == namespace}
        if name in mine:
            return mine[name]
        near = meant(name, mine, 0.5)
        elsewhere = [s.meta.namespace for s in self.services if s.meta.name == name]
        hint = _did_you_mean(near and f"svc/{near}")
        if elsewhere and not near:
            hint = f". There is one in namespace {elsewhere[0]}: say -n {elsewhere[0]}"
        known = ", ".join(mine) or "none"
        raise InputError(f"no Service is called {name!r} in namespace {namespace!r}{hint} (there: {known})")


def _names(places: Iterable[Place]) -> str:
    return ", ".join(place.name for place in places)


def pod_place(name: str, namespace: str) -> str:
    """The lab's own name for a pod's namespace."""
    return f"pod/{name}" if namespace == "default" else f"pod/{namespace}/{name}"


def pod_name(place: str) -> tuple[str, str]:
    """The reverse of `pod_place`: Kubernetes namespace and name."""
    _, first, *rest = place.split("/")
    return (first, rest[0]) if rest else ("default", first)


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a probe goes, and what a reader calls it."""

    address: str
    port: int
    label: str


def goal(known: Known, sender: Place, to: Target, namespace: str, protocol: str) -> Goal:
    """The address and port that a probe from `sender` to `to` is sent to (pure).

    A Service is met where the sender would look for it: from outside the cluster at the balancer's address or else a
    node's port, from inside at its cluster IP.  A pod or machine without a port is met at the first port that it
    listens on.  Raises InputError for a name that nothing has, or where a port is missing.
    """
    if to.kind == "service":
        return _service_goal(known, sender, to, namespace, protocol)
    if protocol in PORTLESS:
        address = to.name if to.kind == "address" else _one_address(known.place(to, namespace), sender)
        return Goal(address, 0, str(to))
    if to.kind == "address":
        if to.port:
            return Goal(to.name, _number(to), str(to))
        owners = [place for place in known.places if to.name in place.addresses]
        ports = [_first_port(place, protocol) for place in owners] or [_service_port(known, to.name, protocol)]
        return Goal(to.name, ports[0] or _missing(to), str(to))
    place = known.place(to, namespace)
    port = _number(to) if to.port else _first_port(place, protocol) or _missing(to)
    return Goal(_one_address(place, sender), port, str(to))


def _number(to: Target) -> int:
    if not to.port.isdigit():
        raise InputError(f"{to}: a port of an address, pod or machine is a number, not {to.port!r}")
    return int(to.port)


def _missing(to: Target) -> int:
    raise InputError(f"{to}: nothing says which port; write {Target(to.kind, to.name, '80')}")


def _first_port(place: Place, protocol: str) -> int:
    return next((port for port, kind in place.ports if kind.lower() == protocol), 0)


def _service_port(known: Known, address: str, protocol: str) -> int:
    """The first port of the Service whose address this is, 0 when it is nobody's."""
    for service in known.services:
        if address in (*service.cluster_ips, *(i.ip for i in service.load_balancer_ingress), *service.external_ips):
            return next((port.port for port in service.ports if port.protocol.lower() == protocol), 0)
    return 0


def _one_address(place: Place, sender: Place) -> str:
    """The place's first address of a family that the sender has, too."""
    families = {":" in address for address in sender.addresses}
    found = [address for address in place.addresses if not families or (":" in address) in families]
    if not found:
        raise InputError(f"{place.name} has no address that {sender.name} could send to")
    return found[0]


def _service_goal(known: Known, sender: Place, to: Target, namespace: str, protocol: str) -> Goal:
    service = known.service(to, namespace)
    ports = [
        p for p in service.ports if to.port in ("", p.name, str(p.port)) and protocol in (p.protocol.lower(), "icmp")
    ]
    if not ports and protocol != "icmp":
        listed = ", ".join(f"{p.port}/{p.protocol}" + (f" ({p.name})" if p.name else "") for p in service.ports)
        raise InputError(f"{to}: no such {protocol.upper()} port; {service.key} has {listed or 'none'}")
    port = ports[0] if ports else None
    label = f"{service.key}:{port.port}" if port is not None and len(service.ports) > 1 else service.key
    number = port.port if port is not None and protocol != "icmp" else 0
    if sender.role in ("node", "pod"):
        if service.headless or not service.cluster_ips:
            raise InputError(f"{to}: {service.key} has no cluster IP; send to one of its pods")
        return Goal(service.cluster_ips[0], number, label)
    if service.load_balancer_ingress:
        return Goal(service.load_balancer_ingress[0].ip, number, label)
    nodes = [place for place in known.places if place.role == "node" and place.addresses]
    if port is not None and port.node_port and nodes:
        return Goal(nodes[0].addresses[0], port.node_port if number else 0, f"{label} at {nodes[0].name}")
    if not service.cluster_ips or service.headless:
        raise InputError(f"{to}: {service.key} has no address that {sender.name} could send to")
    return Goal(service.cluster_ips[0], number, label)
