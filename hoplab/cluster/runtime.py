"""Runs containers that are real programs: starts them in their pods, waits for them, tells of those that failed.

A pod whose program does not start is a pod that crashes, and no reason to end the lab:
its last words become a warning of the run, as `kubectl describe` would have them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoplab.cluster import containers, pod_values
from hoplab.cluster.containers import Run, kind_of
from hoplab.cluster.pod_values import Find, Place
from hoplab.kube.types import Container, Pod
from hoplab.net import programs
from hoplab.net.consoles import Console
from hoplab.net.namespaces import Namespace
from hoplab.net.programs import ProgramFailed, Ready, RunningProgram
from hoplab.net.zygote import ProgramSpec, SpawnFailed, Zygote

if TYPE_CHECKING:
    from hoplab.setup.programs import Found

START_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RunningPod:
    """What the runtime needs to know of a pod that is there."""

    pod: Pod
    namespace: Namespace
    place: Place
    log: str


class ContainerRuntime:
    """The programs of all pods.  `find` gives ConfigMaps and Secrets, `warn` takes what a user should know."""

    def __init__(self, zygote: Zygote, find: Find, warn: Callable[[Pod, str], None]) -> None:
        self.contain_all = False
        """Whether every pod has a file system that is kept from the machine's, also one of the lab's own servers."""
        self._zygote, self._find, self._warn = zygote, find, warn
        self._running: dict[tuple[int, str], RunningProgram] = {}
        """(pid of the pod's holder, container) -> program"""
        self._starting: list[tuple[RunningPod, RunningProgram]] = []
        self._told: set[int] = set()
        self._warned: set[tuple[str, str, str]] = set()
        self._to_start: set[tuple[int, str]] = set()
        self._mounted: dict[int, tuple[Pod, Mapping[str, Mapping[str, str]]]] = {}
        """pid of a pod's holder -> the pod, and the files of its volumes as they were written last"""
        self._found: dict[str, Found | None] = {}

    def program_path(self, name: str) -> Found | None:
        """A program of the machine, or one that --setup unpacked."""
        if name not in self._found:
            from hoplab.setup.programs import find as find_program

            self._found[name] = find_program(name)
        return self._found[name]

    def shown(self, pod: Pod) -> tuple[str, ...]:
        """Folders that a pod with a file system of its own must see wherever they lie: the unpacked programs."""
        if not self.contain_all and not containers.is_contained(pod):
            return ()
        from hoplab.setup.programs import PROJECT, folder

        return (folder(PROJECT),)

    def volumes(self, pod: Pod) -> Mapping[str, Mapping[str, str]] | None:
        """The files of a pod's volumes, None for a pod that needs no file system of its own."""
        if not self.contain_all and not containers.is_contained(pod):
            return None
        found, warnings = pod_values.volumes(pod, self._find)
        for container in pod.containers:
            found |= containers.image_files(container, found, self._wrapper(container))
        self._tell(pod, warnings)
        return found

    def _wrapper(self, container: Container) -> str:
        """A script that runs nginx where it was only unpacked, so that `kubectl exec POD -- nginx -t` finds it."""
        found = self.program_path("nginx") if kind_of(container) in ("nginx", "ingress") else None
        if found is None or not found.libraries:
            return ""
        return f'#!/bin/sh\nLD_LIBRARY_PATH="{":".join(found.libraries)}" exec "{found.path}" "$@"\n'

    def start(self, running: RunningPod, container: Container) -> bool:
        """Start a container that is a program; False for one that something else stands in for."""
        kind = kind_of(container)
        if running.pod.volumes and running.namespace.pid not in self._mounted:
            self._mounted[running.namespace.pid] = running.pod, pod_values.volumes(running.pod, self._find)[0]
        if kind == "stand-in":
            return False
        if kind == "command":
            variables = self.variables(running, container)
            self.run(running, container, containers.command(container, variables, on_machine))
            return True
        if kind == "dns":
            if self.program_path("unbound") is None:
                self._tell(running.pod, [f"no unbound on this machine: names of the cluster are not known; {_GET_IT}"])
            # It starts with its first zones (hoplab.cluster.naming).
            return True
        nginx = self.program_path("nginx")
        if nginx is None:
            if kind == "nginx":
                self._tell(running.pod, [f"no nginx on this machine: the lab's own server stands in; {_GET_IT}"])
                return False
            self._tell(running.pod, [f"no nginx on this machine: the ingress controller does nothing; {_GET_IT}"])
            return True
        if kind == "nginx":
            volumes, _ = pod_values.volumes(running.pod, self._find)
            ipv6 = any(":" in ip for ip in running.place.ips)
            run = containers.nginx(container, running.pod, nginx.path, volumes, ipv6=ipv6)
            self.run(running, container, run, nginx.environment())
        else:
            # The ingress controller starts with its first configuration (hoplab.cluster.ingress).
            self._to_start.add((running.namespace.pid, container.name))
        return True

    def is_to_start(self, running: RunningPod, container: Container) -> bool:
        """Whether an ingress controller was started and waits for its configuration; true once for each start."""
        key = (running.namespace.pid, container.name)
        if key not in self._to_start:
            return False
        self._to_start.discard(key)
        return True

    def refresh(self) -> None:
        """Bring the files of volumes up to date with their ConfigMaps and Secrets.

        As the kubelet does it, but at once; files of their own (subPath) stay as they are, there as here.
        """
        for pid, (pod, before) in list(self._mounted.items()):
            now, _warnings = pod_values.volumes(pod, self._find)
            if now == before:
                continue
            try:
                for path, files in now.items():
                    _rewrite(pid, path, before.get(path, {}), files)
            except OSError:
                # The pod went meanwhile, and its files with it.
                del self._mounted[pid]
                continue
            self._mounted[pid] = pod, now

    def variables(self, running: RunningPod, container: Container) -> dict[str, str]:
        """A container's environment variables."""
        found, warnings = pod_values.environment(container, running.pod, running.place, self._find)
        self._tell(running.pod, warnings)
        return found

    def run(
        self, running: RunningPod, container: Container, run: Run, environment: Mapping[str, str] | None = None
    ) -> RunningProgram | None:
        """Start a program as a container's; `settle` waits until it is ready.  None when it can't be executed."""
        self.stop(running.namespace, container.name)
        document = container.document
        terminal = {"TERM": "xterm"} if document.get("tty") else {}
        variables = {"PATH": containers.PATH, "HOME": "/tmp", **terminal, **self.variables(running, container)}
        spec = ProgramSpec(
            f"{running.namespace.name}: {container.name}",
            running.namespace.pid,
            run.argv,
            {**variables, **(environment or {}), **run.environment},
            str(document.get("workingDir") or "/"),
            run.files,
            bool(document.get("stdin") and document.get("tty")),
        )
        console = None
        if document.get("stdin"):
            console = Console(running.log, terminal=spec.terminal, once=bool(document.get("stdinOnce")))
        ready = Ready(tuple(("TCP", port) for port in run.listening), within_s=START_WITHIN_S)
        try:
            program = programs.launch(self._zygote, spec, running.log, ready, console)
        except SpawnFailed as error:
            self._tell(running.pod, [f"{error}; a container's command is run by this machine's own programs"])
            return None
        self._running[running.namespace.pid, container.name] = program
        self._starting.append((running, program))
        return program

    def settle(self) -> None:
        """Wait until everything that was started is ready, or has said why it is not."""
        starting, self._starting = self._starting, []
        for running, program in starting:
            if program.stopped or not program.ready.listening:
                continue
            try:
                program.wait_ready()
            except ProgramFailed as error:
                self._told.add(program.pid)
                self._tell(running.pod, [str(error)])

    def program(self, namespace: Namespace, container: str) -> RunningProgram | None:
        """The program that a container runs, None where it is no program."""
        return self._running.get((namespace.pid, container))

    def stop(self, namespace: Namespace, container: str, grace_s: float = 0.0) -> bool:
        """End a container's program, with SIGTERM first where it has grace; whether there was one."""
        program = self._running.pop((namespace.pid, container), None)
        if program is None:
            return False
        program.stop(grace_s)
        return True

    def faults(self) -> list[str]:
        """What to tell of programs that failed by themselves since they were ready; an end with 0 is none."""
        found = []
        for program in self._running.values():
            if program.pid not in self._told and program.ended and (fault := program.fault()):
                found.append(fault)
        return found

    def _tell(self, pod: Pod, warnings: list[str]) -> None:
        for warning in warnings:
            if (pod.meta.namespace, pod.meta.name, warning) not in self._warned:
                self._warned.add((pod.meta.namespace, pod.meta.name, warning))
                self._warn(pod, warning)


def _rewrite(pid: int, path: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    if "" in now:
        return
    for name, text in now.items():
        if before.get(name) != text:
            programs.write_inside(pid, f"{path}/{name}", text)
    for name in before.keys() - now.keys():
        os.unlink(f"/proc/{pid}/root{path}/{name}")


_GET_IT = "python3 lab.py --setup unpacks it"


def on_machine(program: str) -> bool:
    """Whether the machine has such a program, by its name or path."""
    return shutil.which(program, path=containers.PATH) is not None
