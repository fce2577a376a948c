"""From the text of a check file to its values, with file, line and field for everything that is wrong.

Nothing is built from a file with a fault in it: all faults are told at once.  The
objects go the way that manifests go, so they are validated as the API server would.
Pure but for `read`, which opens the files.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from hoplab.checks.fields import FIELDS, OUTCOMES, WORDS
from hoplab.checks.kube_proxy import proxy_config
from hoplab.checks.nodes import given_nodes, ipv6_first, is_address, of_ipv6
from hoplab.checks.spec import CheckFile, Expect, FlowSpec, Key, Place, Source, Step, Target
from hoplab.checks.targets import split_port, target
from hoplab.cluster.options import ClusterOptions
from hoplab.dataplane.config import ProxyConfig, ProxyMode
from hoplab.hops.words import endpoint
from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.load import load_documents, load_files, read_text
from hoplab.kube.objects import KubeObject, Loaded
from hoplab.kube.problems import ManifestError, Path, Problem, field_name
from hoplab.kube.schema import check_fields, nearest
from hoplab.kube.together import check_together
from hoplab.kube.types import Node
from hoplab.kube.yaml_reader import Document, read_yaml

SERVICES6 = "fd00:10:96::/112"
"""Where cluster IPs come from that nobody asked for, in a cluster with IPv6."""


def read(path: FilePath | str) -> CheckFile:
    """Read a check file and the manifests that it names.  Raises ManifestError with everything that is wrong."""
    return parse(read_text(FilePath(path)), str(path), lambda names: load_files(names))


def read_all(paths: Sequence[FilePath | str], proxy_mode: ProxyMode | None = None) -> list[CheckFile]:
    """Read several files; runs are named after them, a second one of the same name gets a number.

    `proxy_mode` replaces what the files say.  Raises ManifestError with everything that is wrong in any of them.
    """
    found: list[CheckFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found.append(read(path))
        except ManifestError as error:
            problems += error.problems
    if problems:
        raise ManifestError(problems)
    named: list[CheckFile] = []
    for each in found:
        name, number = each.name, 2
        while any(other.name == name for other in named):
            name, number = f"{each.name}-{number}", number + 1
        options = each.options
        if proxy_mode is not None:
            options = replace(options, proxy=replace(options.proxy, mode=proxy_mode))
        named.append(replace(each, name=name, options=options))
    return named


def parse(text: str, file: str, load: Callable[[list[str]], Loaded]) -> CheckFile:
    """Understand a check file's text; `load` reads manifests by path.  Raises ManifestError."""
    documents = read_yaml(text, file)
    if len(documents) != 1:
        found = "nothing" if not documents else f"{len(documents)} documents"
        raise ManifestError([Problem(file, 0, "", f"expected one YAML document, found {found}")])
    parser = _Parser(documents[0], file, load)
    made = parser.file()
    if parser.problems:
        raise ManifestError(sorted(parser.problems, key=lambda problem: problem.line))
    return made


@dataclass(slots=True)
class _State:
    """The objects as they are at some point of the file."""

    objects: dict[tuple[str, str, str], KubeObject] = field(default_factory=dict)


class _Parser:
    def __init__(self, document: Document, file: str, load: Callable[[list[str]], Loaded]) -> None:
        self._document, self._file, self._load = document, file, load
        self._data: Mapping[str, Any] = document.data if isinstance(document.data, Mapping) else {}
        self.problems: list[Problem] = []
        self._state = _State()
        self._warnings: list[str] = []
        self._nodes: tuple[Node, ...] = ()

    def file(self) -> CheckFile:
        path = FilePath(self._file)
        empty = CheckFile(path, path.stem, ClusterOptions(), Loaded(()))
        if self._fields(self._document.data, "file", ()):
            return empty
        for place, words in WORDS.items():
            self._word(place, words)
        self._nodes = given_nodes(self._data.get("nodes") or (), self._problem)
        options = self._options()
        loaded = self._loaded()
        steps = self._steps() if not self.problems else ()
        return replace(empty, options=options, loaded=loaded, steps=steps)

    # Telling

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(self._file, self._document.line_of(path), field_name(path), message))

    def _fields(self, value: Any, kind: str, path: Path) -> bool:
        """Hold a value against the table; whether something is wrong."""
        found = [(place, message) for place, message in check_fields(value, kind, FIELDS)]
        for place, message in found:
            self._problem((*path, *place), message)
        return bool(found)

    def _word(self, path: tuple[str, ...], words: tuple[str, ...]) -> None:
        value: Any = self._data
        for key in path:
            value = (value or {}).get(key)
        if value is not None and value not in words:
            self._problem(path, f"expected one of {', '.join(words)}, found {value!r}{nearest(str(value), words)}")

    # The cluster

    def _options(self) -> ClusterOptions:
        balancer = self._data.get("balancer") or {}
        topology = self._data.get("topology") or "cloud"
        if topology not in ("cloud", "single"):
            from hoplab.cluster.topology import names  # Mininet is slow to import, and most files need none of it here.

            known = names()
            if topology not in known:
                hint = nearest(topology, known)
                self._problem(("topology",), f"there is none of that name; there are {', '.join(known)}{hint}")
        elif self._nodes and topology != "cloud":
            self._problem(("nodes",), f"the topology {topology} has its own nodes; leave one of both out")
        via = any(isinstance(flow, Mapping) and flow.get("via") for flow in self._data.get("flows") or ())
        defaults = ClusterOptions()
        six = any(":" in address for node in self._nodes for address in node.addresses)
        cidrs = (*defaults.service_cidrs, SERVICES6) if six else defaults.service_cidrs
        return replace(
            defaults,
            service_cidrs=cidrs[::-1] if ipv6_first(self._nodes) else cidrs,
            topology=topology,
            nodes=len(self._nodes) or (1 if topology == "single" else defaults.nodes),
            fabric=self._data.get("fabric") or defaults.fabric,
            algorithm=balancer.get("algorithm") or defaults.algorithm,
            mode=balancer.get("mode") or defaults.mode,
            seed=self._data.get("seed", defaults.seed),
            proxy=self._proxy(),
            given_nodes=self._nodes,
            way_out="routes",
            stand_ins=True,
            client_beside=via,
        )

    def _proxy(self) -> ProxyConfig:
        def problem(path: Path, message: str) -> None:
            if not any(each.field.startswith(field_name(path)) for each in self.problems):
                self._problem(path, message)

        return proxy_config(self._data.get("kubeProxy") or {}, problem)

    # Objects

    def _loaded(self) -> Loaded:
        objects: list[KubeObject] = []
        names = [str(self._beside(name)) for name in self._data.get("manifests") or ()]
        objects += self._take(lambda: self._load(names)) if names else ()
        if self._data.get("objects"):
            parts = self._document.part(("objects",)).items()
            objects += self._take(lambda: load_documents(parts, self._file, together=False))
        self.problems += check_together(objects)
        for each in objects:
            self._state.objects[each.key] = each
        return Loaded(tuple(objects), tuple(self._warnings))

    def _beside(self, name: str) -> FilePath:
        """A manifest's path is meant from the check file."""
        return FilePath(self._file).parent / name

    def _take(self, load: Callable[[], Loaded]) -> tuple[KubeObject, ...]:
        try:
            loaded = load()
        except ManifestError as error:
            self.problems += error.problems
            return ()
        self._warnings += loaded.warnings
        return tuple(map(of_ipv6, loaded.objects)) if ipv6_first(self._nodes) else loaded.objects

    # Flows and changes

    def _steps(self) -> tuple[Step, ...]:
        steps, flows = [Step()], self._data["flows"]
        if not flows:
            self._problem(("flows",), "expected at least one flow")
        names: dict[str, int] = {}
        for number, item in enumerate(flows):
            path: Path = ("flows", number)
            if "after" in item:
                steps.append(self._after(item, path))
                continue
            flow = self._flow(item, path)
            if flow is None:
                continue
            if flow.name in names:
                self._problem((*path, "name"), f"a flow of this name is in line {names[flow.name]}; give it another")
            names[flow.name] = flow.place.line
            steps[-1] = replace(steps[-1], flows=(*steps[-1].flows, flow))
        return tuple(steps)

    def _after(self, item: Mapping[str, Any], path: Path) -> Step:
        if self._fields(item, "after", path):
            return Step()
        applied: list[KubeObject] = []
        deleted: list[Key] = []
        for number, change in enumerate(item["after"]):
            place: Path = (*path, "after", number)
            if "apply" in change:
                if not self._fields(change, "apply", place):
                    applied += self._apply((*place, "apply"), change["apply"])
            elif "delete" in change:
                if not self._fields(change, "delete", place):
                    deleted += self._delete((*place, "delete"), change["delete"])
            else:
                self._problem(place, "expected a change: apply or delete")
        # A later change of the same step may undo an earlier one: the state at its end is what counts.
        there = self._state.objects
        self.problems += check_together(list(there.values()))
        gone = tuple(key for key in deleted if (key.kind, key.namespace, key.name) not in there)
        return Step(tuple(each for each in applied if there.get(each.key) is each), gone)

    def _apply(self, path: Path, given: Any) -> list[KubeObject]:
        if isinstance(given, str):
            name = str(self._beside(given))
            objects = self._take(lambda: self._load([name]))
        else:
            part = self._document.part(path)
            parts = part.items() if isinstance(given, list) else [part]
            objects = self._take(lambda: load_documents(parts, self._file, together=False))
        for each in objects:
            self._state.objects[each.key] = each
        return list(objects)

    def _delete(self, path: Path, given: Mapping[str, str]) -> Iterator[Key]:
        kind, name = given["kind"], given["name"]
        namespace = "" if kind in CLUSTER_SCOPED else given.get("namespace", "default")
        if self._state.objects.pop((kind, namespace, name), None) is None:
            there = [f"{ns}/{n}" if ns else n for k, ns, n in self._state.objects if k == kind]
            words = f"{kind} {namespace}/{name} is not there" if namespace else f"{kind} {name} is not there"
            self._problem(path, f"{words}; {kind} objects at this point: {', '.join(there) or 'none'}")
            return
        yield Key(kind, namespace, name)

    def _flow(self, item: Mapping[str, Any], path: Path) -> FlowSpec | None:
        if self._fields(item, "flow", path):
            return None
        before = len(self.problems)
        source = self._source(item["from"], (*path, "from"))
        target = self._target(item["to"], (*path, "to"))
        expect = self._expect(item["expect"], (*path, "expect"))
        if len(self.problems) > before or source is None or target is None:
            return None
        place = Place(self._file, self._document.line_of(path))
        return FlowSpec(item["name"], source, target, expect, place, item.get("via") or "")

    def _source(self, given: Any, path: Path) -> Source | None:
        if isinstance(given, str):
            return Source(given)
        if self._fields(given, "from", path):
            return None
        if not is_address(given["address"]):
            self._problem((*path, "address"), f"expected an IP address, found {given['address']!r}")
            return None
        return Source(given["behind"], given["address"])

    def _target(self, text: str, path: Path) -> Target | None:
        try:
            return target(text)
        except ValueError as error:
            self._problem(path, str(error))
            return None

    def _expect(self, given: Mapping[str, Any], path: Path) -> Expect:
        outcome, spread = given.get("outcome"), given.get("spread", False)
        endpoints = tuple(
            filter(
                None, (self._endpoint(e, (*path, "endpoints", n)) for n, e in enumerate(given.get("endpoints") or ()))
            )
        )
        if not given:
            self._problem(path, f"expected at least one of {', '.join(FIELDS['expect'])}")
        if outcome is not None and outcome not in OUTCOMES:
            hint = nearest(outcome, OUTCOMES)
            self._problem((*path, "outcome"), f"expected one of {', '.join(OUTCOMES)}, found {outcome!r}{hint}")
        if spread not in (True, False, "even"):
            self._problem((*path, "spread"), f"expected true, false or even, found {spread!r}")
        for number, one in enumerate(endpoints):
            if one in endpoints[:number]:
                self._problem((*path, "endpoints"), f"{endpoint(*one)} is there twice")
        if "endpoints" in given and not given["endpoints"]:
            self._problem((*path, "endpoints"), "expected at least one; for a flow that nobody answers leave it out")
        if endpoints and outcome not in (None, "accepted"):
            self._problem((*path, "endpoints"), f"a flow that is {outcome} is answered by no endpoint")
        if spread and not endpoints:
            self._problem((*path, "spread"), "needs endpoints: the ones that the flows have to be spread over")
        if endpoints and outcome is None:
            outcome = "accepted"
        kind: Any = {True: "each", False: "none"}.get(spread, spread) if isinstance(spread, bool) else spread
        return Expect(outcome, endpoints, kind, given.get("masqueraded"), tuple(given.get("hops") or ()))

    def _endpoint(self, text: str, path: Path) -> tuple[str, int] | None:
        try:
            address, port = split_port(text)
            ip = ipaddress.ip_address(address)
        except ValueError:
            self._problem(path, f"expected ADDRESS:PORT, found {text!r}")
            return None
        return str(ip), port
