"""The ingress controller: follows Ingresses and what they point to, and keeps its pods' nginx at it.

What nginx is to do is decided in hoplab.ingress, by pure functions.  Here the text is
tried (nginx -t), written into the pod, and nginx told to read it: it starts new workers
and lets the old ones finish what they have.  A text that nginx refuses changes nothing
but the list of warnings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hoplab.cluster.containers import PATH, Run, kind_of
from hoplab.cluster.pod_values import Find, expanded, values_of
from hoplab.cluster.runtime import ContainerRuntime, RunningPod
from hoplab.ingress import nginx, rules
from hoplab.ingress.rules import Options, View
from hoplab.ingress.settings import global_settings
from hoplab.ingress.words import SCRATCH
from hoplab.kube.objects import KubeObject
from hoplab.kube.types import Container, Service
from hoplab.net.programs import ProgramFailed, RunningProgram, write_inside

RELOADED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Served:
    """What one sync came to: whether a configuration changed, and where each Ingress is served from now on."""

    changed: bool
    addresses: Mapping[tuple[str, str], tuple[str, ...]]
    """(namespace, name) of an Ingress -> addresses."""


class IngressControllers:
    """All controller pods of the cluster; what each was last told is what tells whether anything changed."""

    def __init__(self, runtime: ContainerRuntime, find: Find, warn: Callable[[str], None]) -> None:
        self._runtime, self._find, self._warn = runtime, find, warn
        self._written: dict[int, Mapping[str, str]] = {}
        self._told: set[str] = set()

    def sync(self, pods: Sequence[RunningPod], seen: View) -> Served:
        """Bring every controller up to date and wait until it works by its new configuration."""
        changed = False
        addresses: dict[tuple[str, str], tuple[str, ...]] = {}
        for running in pods:
            for container in running.pod.containers:
                if kind_of(container) == "ingress":
                    changed |= self._one(running, container, seen, addresses)
        return Served(changed, addresses)

    def _one(
        self,
        running: RunningPod,
        container: Container,
        seen: View,
        addresses: dict[tuple[str, str], tuple[str, ...]],
    ) -> bool:
        options, warnings = controller_options(container, self._runtime.variables(running, container))
        namespace, _, name = options.config_map.partition("/")
        data = values_of(self._find("ConfigMap", namespace, name)) if name else None
        if name and data is None:
            warnings.append(f"--configmap: no ConfigMap is called {options.config_map}: the defaults hold")
        shared, wrong = global_settings(data or {}, f"ConfigMap {options.config_map}")
        plan = rules.plan(seen, options, shared)
        for warning in (*warnings, *wrong, *plan.warnings):
            self._tell(running, warning)
        where = served_at(options, seen.services, running)
        for key in plan.handled:
            namespace, _, name = key.partition("/")
            addresses[namespace, name] = (*addresses.get((namespace, name), ()), *where)
        files = nginx.write(plan, options, shared).files
        program = self._runtime.program(running.namespace, container.name)
        alive = program is not None and program.ended is None
        if alive and self._written.get(running.namespace.pid) == files:
            return False
        self._written[running.namespace.pid] = files
        if program is not None and alive:
            if self._is_sound(running, files):
                _reload(program, files, self._warn)
        elif self._runtime.is_to_start(running, container):
            self._start(running, container, options, files)
        else:
            # It ended by itself, and whether it is started again is the kubelet's to say.
            return False
        return True

    def _start(self, running: RunningPod, container: Container, options: Options, files: Mapping[str, str]) -> None:
        found = self._runtime.program_path("nginx")
        if found is None:
            return
        argv = (found.path, "-e", "stderr", "-c", nginx.CONFIG)
        ports = (options.http_port, options.https_port, options.healthz_port)
        run = Run(argv, found.environment(), {f"{SCRATCH}/.keep": "", **files}, ports)
        self._runtime.run(running, container, run)
        self._runtime.settle()

    def _is_sound(self, running: RunningPod, files: Mapping[str, str]) -> bool:
        """Ask nginx itself; what it has against the text becomes a warning, and the earlier one stays."""
        found = self._runtime.program_path("nginx")
        if found is None:
            return False
        trial = f"{nginx.CONFIG}.trial"
        for path, text in {**files, trial: files[nginx.CONFIG]}.items():
            if path != nginx.CONFIG:
                write_inside(running.namespace.pid, path, text)
        environment = {"PATH": f"{os.environ.get('PATH', '')}:{PATH}", **found.environment()}
        done = running.namespace.run(
            [found.path, "-t", "-q", "-e", "stderr", "-c", trial], check=False, env=environment
        )
        if done.returncode == 0:
            return True
        words = " ".join((done.stderr + done.stdout).split()).replace(trial, "nginx.conf")
        self._tell(
            running, f"{running.namespace.name}: nginx refuses its new configuration, the earlier one stays: {words}"
        )
        return False

    def _tell(self, running: RunningPod, warning: str) -> None:
        """Tell something once: to the run, and in the controller's log, where `kubectl logs` shows it."""
        if warning in self._told:
            return
        self._told.add(warning)
        self._warn(warning)
        with suppress(OSError), open(running.log, "a", encoding="utf-8") as log:
            log.write(f"controller: {warning}\n")


def served_at(options: Options, services: Sequence[Service], running: RunningPod) -> tuple[str, ...]:
    """Addresses that Ingresses are served at: those of the published Service, else that of the pod's node (pure)."""
    published = next((each for each in services if each.key == options.publish_service), None)
    if published is not None:
        found = (*(each.ip for each in published.load_balancer_ingress), *published.external_ips)
        if found:
            return found
    return (running.place.node_ip,) if running.place.node_ip else ()


def controller_options(container: Container, variables: Mapping[str, str]) -> tuple[Options, list[str]]:
    """The ingress controller's arguments read, and those that the lab's one does not know."""
    words = [expanded(word, variables) for word in (*container.command, *container.args)]
    given: dict[str, str] = {}
    warnings = []
    for word in words:
        match = re.fullmatch(r"--?([a-z-]+)(?:=(.*))?", word)
        if match is None:
            continue
        if match[1] in _TEXTS or match[1] in _NUMBERS:
            given[match[1]] = match[2] or ""
        elif match[1] not in _WITHOUT_MEANING:
            warnings.append(f"argument {word}: the lab's ingress controller does not know it")
    texts = {_TEXTS[key]: text for key, text in given.items() if key in _TEXTS}
    numbers = {_NUMBERS[key]: int(text) for key, text in given.items() if key in _NUMBERS and text.isdigit()}
    return Options(**texts, **numbers), warnings  # type: ignore[arg-type]


_TEXTS = {
    "ingress-class": "name",
    "default-backend-service": "default_backend",
    "configmap": "config_map",
    "publish-service": "publish_service",
    "watch-namespace": "watch_namespace",
}
_NUMBERS = {"http-port": "http_port", "https-port": "https_port", "healthz-port": "healthz_port"}
_WITHOUT_MEANING = (
    "election-id",
    "controller-class",
    "v",
    "logtostderr",
    "report-node-internal-ip-address",
    "sync-period",
)
"""Arguments that change nothing here: there is one replica that leads, and it follows every change at once."""


def _reload(program: RunningProgram, files: Mapping[str, str], warn: Callable[[str], None]) -> None:
    before = workers(program.pid)
    program.reload(files)
    try:
        program.wait_until(lambda: exchanged(program.pid, before), RELOADED_WITHIN_S, "new workers")
    except ProgramFailed as error:
        warn(str(error))


def exchanged(master: int, before: set[int]) -> bool:
    """Whether a new worker is there and the old ones take no more connections."""
    now = workers(master)
    return bool(now - before) and all(_leaving(pid) for pid in now & before)


def workers(master: int) -> set[int]:
    """Process ids of the children of an nginx."""
    try:
        with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as file:
            return set(map(int, file.read().split()))
    except OSError:
        return set()


def _leaving(pid: int) -> bool:
    """nginx writes it over its own command line when it closed its doors."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
    except OSError:
        return True
    return not line or b"shutting down" in line


def updated(ingresses: Sequence[KubeObject], served: Served) -> list[KubeObject]:
    """The Ingresses whose status is another one now, with that status (pure)."""
    found = []
    for ingress in ingresses:
        wanted = served.addresses.get((ingress.meta.namespace, ingress.meta.name), ())
        after = rules.with_addresses(ingress, tuple(dict.fromkeys(wanted)))
        before = ingress.document.get("status") or {"loadBalancer": {"ingress": []}}
        if after.document["status"] != before:
            found.append(after)
    return found
