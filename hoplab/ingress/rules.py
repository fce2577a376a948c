"""From Ingress objects to what a web server has to do: hosts, locations, upstreams, certificates.

An Ingress says for a host and a path which Service answers; several Ingresses may speak
of the same host.  The rules of precedence are the API reference's: an exact host comes
before a wildcard, which stands for one label; of the matching paths the longest wins, and
an exact one before a prefix.  Of two that say the same the older one wins.  The controller
sends to endpoints itself and not to a Service's address, so endpoints are what it follows.

Source: the API reference of networking.k8s.io/v1 (Ingress, HTTPIngressPath, IngressClass) and
ingress-nginx internal/ingress/controller/{controller,location}.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hoplab.ingress.settings import CLASS, Canary, Global, Settings, settings
from hoplab.kube.objects import KubeObject
from hoplab.kube.secrets import secret_data
from hoplab.kube.types import EndpointSlice, Service, ServicePort

CONTROLLER = "k8s.io/ingress-nginx"
"""spec.controller of the IngressClasses that are this controller's."""
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
ANY_HOST = "_"
Kind = Literal["exact", "prefix", "start", "regex"]
"""exact: this path alone.  prefix: by whole path elements.  start: paths that begin so.  regex: as the pattern says."""

_REGEX_SIGNS = re.compile(r"[\\^$.|?*+()\[\]{}]")


@dataclass(frozen=True, slots=True)
class Options:
    """The controller's own arguments."""

    name: str = "nginx"
    """--ingress-class"""
    default_backend: str = ""
    """--default-backend-service, NAMESPACE/NAME; '' when it answers itself what no rule takes."""
    config_map: str = ""
    """--configmap, NAMESPACE/NAME"""
    publish_service: str = ""
    """--publish-service, NAMESPACE/NAME"""
    watch_namespace: str = ""
    """--watch-namespace; '' for all"""
    http_port: int = 80
    https_port: int = 443
    healthz_port: int = 10254


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service's port, and where its pods listen at this moment."""

    service: str
    """NAMESPACE/NAME"""
    port: str
    """As the Ingress has it: number or name."""
    endpoints: tuple[str, ...] = ()
    """IP:PORT, ready ones, in order."""

    @property
    def upstream(self) -> str:
        """Its name in nginx: namespace-service-port."""
        return f"{self.service.replace('/', '-')}-{self.port}"


@dataclass(frozen=True, slots=True)
class Location:
    """A path of a host."""

    path: str
    kind: Kind
    backend: Backend
    settings: Settings = field(default_factory=Settings)
    ingress: str = ""
    """NAMESPACE/NAME; '' where no Ingress wrote it (what no rule takes)."""
    written: str = ""
    """The path as the Ingress has it."""
    canary: Backend | None = None
    """Who gets some of the requests instead, as `canary_of` says."""
    canary_of: Canary = field(default_factory=Canary)


@dataclass(frozen=True, slots=True)
class Host:
    """One virtual host; `ANY_HOST` takes what no other one takes."""

    name: str
    locations: tuple[Location, ...] = ()
    aliases: tuple[str, ...] = ()
    certificate: str = ""
    """Name of the file with certificate and key, '' for a host without TLS."""
    snippets: tuple[str, ...] = ()
    app_root: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the web server has to do."""

    hosts: tuple[Host, ...]
    default_backend: Backend | None
    certificates: Mapping[str, str]
    """File name -> PEM text, certificate first."""
    passwords: Mapping[str, str]
    """NAMESPACE/NAME of the Secret -> lines of USER:HASH."""
    handled: tuple[str, ...]
    """NAMESPACE/NAME of the Ingresses that this controller serves."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What the controller sees of the cluster."""

    ingresses: Sequence[KubeObject] = ()
    classes: Sequence[KubeObject] = ()
    secrets: Sequence[KubeObject] = ()
    services: Sequence[Service] = ()
    slices: Sequence[EndpointSlice] = ()


def plan(seen: View, options: Options, shared: Global) -> Plan:
    """What follows from the objects (pure).  Same objects, same plan, in whatever order they are given."""
    return _Planner(seen, options, shared).plan()


def is_ours(ingress: KubeObject, classes: Iterable[KubeObject], name: str) -> bool:
    """Whether the controller of class `name` serves an Ingress.

    By its ingressClassName, else by the old annotation, else it is everybody's unless a default class of another
    controller takes it.
    """
    known = {each.meta.name: each for each in classes}
    wanted = (ingress.document.get("spec") or {}).get("ingressClassName") or ""
    if wanted:
        return _controller(known[wanted]) == CONTROLLER if wanted in known else wanted == name
    old = ingress.meta.annotations.get(CLASS, "")
    if old:
        return old == name
    defaults = [each for each in known.values() if each.meta.annotations.get(DEFAULT_CLASS) == "true"]
    return not defaults or any(_controller(each) == CONTROLLER for each in defaults)


def _controller(ingress_class: KubeObject) -> str:
    return (ingress_class.document.get("spec") or {}).get("controller") or ""


@dataclass(slots=True)
class _Draft:
    """A host in the making: locations by kind and path, the first of each stays."""

    locations: dict[tuple[Kind, str], Location] = field(default_factory=dict)
    fallback: Location | None = None
    aliases: list[str] = field(default_factory=list)
    certificate: str = ""
    snippets: list[str] = field(default_factory=list)
    app_root: str = ""


class _Planner:
    def __init__(self, seen: View, options: Options, shared: Global) -> None:
        self._options, self._shared = options, shared
        self._services = {each.key: each for each in seen.services}
        self._slices: dict[str, list[EndpointSlice]] = {}
        for piece in sorted(seen.slices, key=lambda piece: piece.meta.name):
            self._slices.setdefault(f"{piece.meta.namespace}/{piece.service}", []).append(piece)
        self._secrets = {f"{each.meta.namespace}/{each.meta.name}": each for each in seen.secrets}
        mine = [each for each in seen.ingresses if is_ours(each, seen.classes, options.name)]
        if options.watch_namespace:
            mine = [each for each in mine if each.meta.namespace == options.watch_namespace]
        self._ingresses = sorted(mine, key=_age)
        self._hosts: dict[str, _Draft] = {ANY_HOST: _Draft()}
        self._certificates: dict[str, str] = {}
        self._passwords: dict[str, str] = {}
        self._warnings: list[str] = []
        self._canaries: list[tuple[str, Location]] = []

    def plan(self) -> Plan:
        for ingress in self._ingresses:
            self._take(ingress)
        self._join_canaries()
        default = self._default_backend()
        return Plan(
            tuple(self._host(name, self._hosts[name]) for name in sorted(self._hosts, key=_host_order)),
            default,
            self._certificates,
            self._passwords,
            tuple(_key(each) for each in self._ingresses),
            tuple(dict.fromkeys(self._warnings)),
        )

    def _default_backend(self) -> Backend | None:
        if not self._options.default_backend:
            return None
        service = self._services.get(self._options.default_backend)
        if service is None or not service.ports:
            self._warnings.append(f"--default-backend-service: no Service is called {self._options.default_backend}")
            return None
        return self._backend(service.key, str(service.ports[0].port), "--default-backend-service", Settings())

    def _take(self, ingress: KubeObject) -> None:
        spec = ingress.document.get("spec") or {}
        where = f"Ingress {_key(ingress)}"
        set_up, warnings = settings(ingress.meta.annotations, self._shared.location, where, ingress.meta.namespace)
        self._warnings += warnings
        if set_up.auth_secret and not self._read_passwords(set_up.auth_secret, where):
            # Without its file of users a location lets nobody in, rather than everybody.
            self._passwords[set_up.auth_secret] = ""
        names = []
        for rule in spec.get("rules") or ():
            host = rule.get("host") or ANY_HOST
            names.append(host)
            draft = self._hosts.setdefault(host, _Draft())
            for each in (rule.get("http") or {}).get("paths") or ():
                self._path(draft, host, ingress, each, set_up)
        fallback = spec.get("defaultBackend")
        if fallback:
            made = self._location("/", "start", ingress, fallback, set_up)
            for host in names or [ANY_HOST]:
                if made is not None and self._hosts[host].fallback is None:
                    self._hosts[host].fallback = made
        for host in dict.fromkeys(names):
            draft = self._hosts[host]
            draft.aliases += [each for each in set_up.server_alias if each not in self._hosts]
            draft.snippets += [set_up.server_snippet] if set_up.server_snippet else []
            draft.app_root = draft.app_root or set_up.app_root
        self._tls(ingress, spec, names, where)

    def _path(self, draft: _Draft, host: str, ingress: KubeObject, path: Mapping[str, Any], set_up: Settings) -> None:
        written = path.get("path") or "/"
        kind: Kind = {"Exact": "exact", "Prefix": "prefix"}.get(path.get("pathType") or "", "start")  # type: ignore[assignment]
        bare = written.rstrip("/") if kind == "prefix" else written
        if bare == "" or (kind == "start" and written == "/"):
            kind, bare = "start", "/"
        location = self._location(bare, kind, ingress, path["backend"], set_up, written)
        if location is None:
            return
        if set_up.canary.enabled:
            self._canaries.append((host, location))
            return
        before = draft.locations.setdefault((kind, bare), location)
        if before is not location:
            older = f"Ingress {before.ingress}, which is older, has it"
            self._warnings.append(f"Ingress {_key(ingress)}: {host}{written} is left out: {older}")

    def _join_canaries(self) -> None:
        """Give each canary to the path that it stands beside."""
        for host, one in self._canaries:
            beside = self._hosts[host].locations.get((one.kind, one.path))
            if beside is None or beside.canary is not None:
                why = "no other Ingress has it" if beside is None else "it has a canary already"
                self._warnings.append(f"Ingress {one.ingress}: a canary of {host}{one.written} is left out: {why}")
                continue
            joined = replace(beside, canary=one.backend, canary_of=one.settings.canary)
            self._hosts[host].locations[one.kind, one.path] = joined

    def _location(
        self,
        path: str,
        kind: Kind,
        ingress: KubeObject,
        backend: Mapping[str, Any],
        set_up: Settings,
        written: str = "/",
    ) -> Location | None:
        where = f"Ingress {_key(ingress)}"
        service = backend.get("service")
        if not service:
            self._warnings.append(f"{where}: {written}: a backend that is no Service can't be served")
            return None
        port = service.get("port") or {}
        wanted = str(port.get("name") or port.get("number") or "")
        key = f"{ingress.meta.namespace}/{service['name']}"
        return Location(path, kind, self._backend(key, wanted, where, set_up), set_up, _key(ingress), written)

    def _backend(self, key: str, wanted: str, where: str, set_up: Settings) -> Backend:
        """A Service's port with its ready endpoints; with none, and a warning, where there is no such thing."""
        service = self._services.get(key)
        if service is None:
            self._warnings.append(f"{where}: no Service is called {key}: what it should answer gets 503")
            return Backend(key, wanted)
        port = next((each for each in service.ports if wanted in (each.name, str(each.port))), None)
        if port is None:
            there = ", ".join(f"{each.name or each.port}" for each in service.ports) or "none"
            self._warnings.append(
                f"{where}: Service {key} has no port {wanted}; it has {there}: what it should answer gets 503"
            )
            return Backend(key, wanted)
        if service.type == "ExternalName":
            self._warnings.append(f"{where}: Service {key} is an ExternalName, which the lab's controller can't reach")
            return Backend(key, wanted)
        if set_up.service_upstream and service.cluster_ips and not service.headless:
            return Backend(key, wanted, (_endpoint(service.cluster_ips[0], port.port),))
        return Backend(key, wanted, self._endpoints(key, port))

    def _endpoints(self, key: str, port: ServicePort) -> tuple[str, ...]:
        found = [
            _endpoint(endpoint.addresses[0], number.port)
            for piece in self._slices.get(key, ())
            for number in piece.ports
            if number.name == port.name and number.protocol == port.protocol and number.port
            for endpoint in piece.endpoints
            if endpoint.ready and endpoint.addresses and piece.address_type != "FQDN"
        ]
        return tuple(dict.fromkeys(found))

    def _tls(self, ingress: KubeObject, spec: Mapping[str, Any], names: Sequence[str], where: str) -> None:
        for entry in spec.get("tls") or ():
            secret = entry.get("secretName") or ""
            hosts = entry.get("hosts") or names
            file = self._read_certificate(f"{ingress.meta.namespace}/{secret}", where) if secret else ""
            for host in hosts:
                if host in self._hosts and not self._hosts[host].certificate:
                    self._hosts[host].certificate = file

    def _read_certificate(self, key: str, where: str) -> str:
        name = f"{key.replace('/', '-')}.pem"
        if name in self._certificates:
            return name
        data = self._data(
            key, ("tls.crt", "tls.key"), f"{where}: TLS", "no certificate: HTTPS is refused for its hosts"
        )
        if data is None:
            return ""
        self._certificates[name] = "\n".join(text.strip() for text in data) + "\n"
        return name

    def _read_passwords(self, key: str, where: str) -> bool:
        data = self._data(key, ("auth",), f"{where}: auth-secret", "nobody is let in")
        if data is not None:
            self._passwords[key] = data[0]
        return data is not None

    def _data(self, key: str, names: Sequence[str], where: str, so: str) -> list[str] | None:
        """Values of a Secret as text, None (and a warning) when one is missing or no text."""
        secret = self._secrets.get(key)
        if secret is None:
            self._warnings.append(f"{where}: no Secret is called {key}: {so}")
            return None
        found = secret_data(secret)
        absent = [name for name in names if name not in found]
        if absent:
            self._warnings.append(f"{where}: Secret {key} has no {' and no '.join(absent)}: {so}")
            return None
        return [found[name].decode("utf-8", "replace") for name in names]

    def _host(self, name: str, draft: _Draft) -> Host:
        fallback, found = draft.fallback, list(draft.locations.values())
        if fallback is not None and ("start", "/") not in draft.locations:
            found.append(fallback)
        found.sort(key=_order)
        if any(each.settings.use_regex or each.settings.rewrites for each in found):
            found = [replace(each, kind="regex", path=_pattern(each)) for each in found]
        return Host(
            name, tuple(found), tuple(draft.aliases), draft.certificate, tuple(draft.snippets),
            draft.app_root,
        )  # fmt: skip


def with_addresses(ingress: KubeObject, addresses: Sequence[str]) -> KubeObject:
    """The Ingress with the addresses where it is served in its status, as the controller reports them."""
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}
    return replace(ingress, document={**ingress.document, "status": status})


def _key(obj: KubeObject) -> str:
    return f"{obj.meta.namespace}/{obj.meta.name}"


def _age(ingress: KubeObject) -> tuple[str, str]:
    """Older ones first, by name where they are of the same second; what has no date keeps the order that it came in."""
    born = (ingress.document.get("metadata") or {}).get("creationTimestamp") or ""
    return (born, _key(ingress) if born else "")


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _host_order(name: str) -> tuple[bool, bool, str]:
    """The catch-all first, wildcards last; nginx itself prefers exact names."""
    return (name != ANY_HOST, name.startswith("*."), name)


def _pattern(location: Location) -> str:
    """A path of a host whose paths are regular expressions: ingress-nginx matches them from the start, in any case.

    Where a path is no pattern itself, Exact and Prefix go on to mean what the API says.
    """
    path = location.path
    if location.kind == "start" or _REGEX_SIGNS.search(path.replace(".", "")):
        return path
    return f"{path}$" if location.kind == "exact" else f"{path}(?=/|$)"


def _order(location: Location) -> tuple[int, int, str]:
    """The longest path first, exact before others: the order in which regular expressions are tried."""
    return (-len(location.written), ("exact", "prefix", "start", "regex").index(location.kind), location.path)
