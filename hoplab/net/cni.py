"""The runtime's side of the Container Network Interface: executes plugins, understands their results.

A CNI plugin is a program: CNI_COMMAND and friends in the environment, the network
configuration as JSON on standard input, a result or an error as JSON on standard
output.  For a list of plugins the result of one is the next one's prevResult, and
DEL goes through the list backwards.  The configuration is whatever lies first in
the node's /etc/cni/net.d, so a user who changes that file changes the network.

Source: the CNI specification 1.0.0 (github.com/containernetworking/cni, SPEC.md).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from hoplab.net.namespaces import Namespace

CONF_DIR = "/etc/cni/net.d"
PLUGIN_PATH = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
AT_ONCE = 8
"""Plugins running at the same time: more only fight for the processors."""

Command = Literal["ADD", "CHECK", "DEL", "VERSION"]


class CniError(RuntimeError):
    """A plugin or its configuration failed.  Says the step, the plugin, the pod and the plugin's own words."""

    def __init__(self, command: str, plugin: str, pod: str, message: str, code: int = 0, details: str = "") -> None:
        self.command, self.plugin, self.pod = command, plugin, pod
        self.code, self.message, self.details = code, message, details
        more = f" ({details})" if details else ""
        number = f" [code {code}]" if code else ""
        super().__init__(f"CNI {command} for {pod}: plugin {plugin}: {message}{more}{number}")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A configuration file as read: its path on the node, the network's name, and its plugins in order."""

    path: str
    name: str
    cni_version: str
    plugins: tuple[Mapping[str, Any], ...]

    @property
    def bridge(self) -> str:
        """Name of the bridge that the first `bridge` plugin makes, '' when there is none."""
        for plugin in self.plugins:
            if plugin.get("type") == "bridge":
                return str(plugin.get("bridge", "cni0"))
        return ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One container on one node that is to be attached: what the CNI environment says of it.

    `netns` is the path of its network namespace as seen on the node, `args` become CNI_ARGS.
    """

    node: Namespace
    config: NetworkConfig
    pod: str
    container_id: str
    netns: str
    interface: str = "eth0"
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CniResult:
    """What ADD gave: addresses with prefix length, gateway of the first, and the whole document."""

    addresses: tuple[str, ...]
    gateway: str
    document: Mapping[str, Any]

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses without prefix length."""
        return tuple(address.partition("/")[0] for address in self.addresses)


def parse_config(text: str, path: str) -> NetworkConfig:
    """Understand a .conf, .json or .conflist file (pure).  Raises CniError with file and line."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise CniError("conf", path, f"{path}:{error.lineno}", f"not JSON: {error.msg}") from error
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise CniError("conf", path, path, "a network configuration is an object with a `name`")
    plugins = document.get("plugins") if "plugins" in document else [document]
    if not isinstance(plugins, list) or not plugins or not all(isinstance(p, dict) and "type" in p for p in plugins):
        raise CniError("conf", path, path, "every plugin of a network configuration needs a `type`")
    return NetworkConfig(path, document["name"], str(document.get("cniVersion", "")), tuple(plugins))


def read_config(node: Namespace) -> NetworkConfig:
    """The configuration in force on a node: the first file of its /etc/cni/net.d by name, as a runtime takes it.

    Raises CniError when there is none or it is not understood.
    """
    directory = node.path(CONF_DIR)
    try:
        names = sorted(n for n in os.listdir(directory) if n.endswith((".conf", ".conflist", ".json")))
    except FileNotFoundError:
        names = []
    if not names:
        raise CniError("conf", "(none)", node.name, f"no network configuration in {CONF_DIR} of {node.name}")
    path = f"{CONF_DIR}/{names[0]}"
    with open(node.path(path), encoding="utf-8") as file:
        return parse_config(file.read(), path)


def write_config(node: Namespace, name: str, text: str) -> None:
    """Put a configuration file into the node's /etc/cni/net.d."""
    directory = node.path(CONF_DIR)
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def write_state(node: Namespace, network: str, name: str, text: str) -> None:
    """Put a file where host-local on this node remembers what it gave in a network (plugins/ipam/host-local)."""
    directory = node.path(f"/var/lib/cni/networks/{network}")
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def plugin_input(
    config: NetworkConfig, plugin: Mapping[str, Any], previous: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What one plugin gets on standard input (pure; SPEC section 3, 'Deriving request configuration')."""
    document = {**plugin, "name": config.name}
    if config.cni_version:
        document["cniVersion"] = config.cni_version
    if previous is not None:
        document["prevResult"] = previous
    return document


def parse_result(document: Mapping[str, Any]) -> CniResult:
    """Understand a result of spec version 0.1.0 up to 1.0.0 (pure): `ip4`/`ip6` once, a list `ips` today."""
    if "ips" in document:
        entries = document["ips"]
        return CniResult(
            tuple(e["address"] for e in entries), next((e["gateway"] for e in entries if "gateway" in e), ""), document
        )
    old = [document[key] for key in ("ip4", "ip6") if key in document]
    return CniResult(tuple(e["ip"] for e in old), next((e["gateway"] for e in old if "gateway" in e), ""), document)


@dataclass(slots=True)
class _Running:
    attachment: Attachment
    plugin: str
    process: subprocess.Popen[str]


Documents = dict[str, Mapping[str, Any] | None]
"""Result so far by container id; None before the first plugin."""


class CniRuntime:
    """Executes plugins in the namespaces of their nodes, several at once; ADD on one node in the order of the pods."""

    def __init__(self, plugin_path: Sequence[str] = PLUGIN_PATH) -> None:
        self.plugin_path = tuple(plugin_path)

    def add(self, attachments: Sequence[Attachment]) -> dict[str, CniResult | CniError]:
        """ADD for each attachment; by container id the result, or the error of the one that failed."""
        failed: dict[str, CniError] = {}
        previous: Documents = {a.container_id: None for a in attachments}
        for step in range(_longest(attachments)):
            todo = [a for a in attachments if step < len(a.config.plugins) and a.container_id not in failed]
            for attachment, answer in self._round("ADD", [(a, a.config.plugins[step]) for a in todo], previous):
                if isinstance(answer, CniError):
                    failed[attachment.container_id] = answer
                else:
                    previous[attachment.container_id] = answer
        return {
            identity: failed.get(identity) or parse_result(document or {}) for identity, document in previous.items()
        }

    def check(self, attachment: Attachment, result: CniResult) -> None:
        """CHECK: raises CniError when a plugin finds the attachment not as ADD left it (or can't check)."""
        previous: Documents = {attachment.container_id: result.document}
        for plugin in attachment.config.plugins:
            for _attachment, answer in self._round("CHECK", [(attachment, plugin)], previous):
                if isinstance(answer, CniError):
                    raise answer

    def delete(
        self, attachments: Sequence[Attachment], results: Mapping[str, CniResult] | None = None
    ) -> list[CniError]:
        """DEL for each attachment, plugins in reverse order; what went wrong (a repeated DEL is no error)."""
        known = results or {}
        previous: Documents = {
            a.container_id: known[a.container_id].document if a.container_id in known else None for a in attachments
        }
        errors = []
        for step in range(_longest(attachments)):
            todo = [(a, a.config.plugins[-1 - step]) for a in attachments if step < len(a.config.plugins)]
            errors += [answer for _, answer in self._round("DEL", todo, previous) if isinstance(answer, CniError)]
        return errors

    def _round(
        self, command: Command, work: Sequence[Work], previous: Documents
    ) -> list[tuple[Attachment, Mapping[str, Any] | CniError]]:
        answers: list[tuple[Attachment, Mapping[str, Any] | CniError]] = []
        for some in turns(work, one_a_node=command == "ADD"):
            started: list[_Running | tuple[Attachment, CniError]] = []
            for attachment, plugin in some:
                try:
                    document = plugin_input(attachment.config, plugin, previous[attachment.container_id])
                    started.append(self._start(command, attachment, plugin, document))
                except CniError as error:
                    started.append((attachment, error))
            for one in started:
                answers.append((one.attachment, self._collect(command, one)) if isinstance(one, _Running) else one)
        return answers

    def _start(
        self, command: Command, attachment: Attachment, plugin: Mapping[str, Any], document: Mapping[str, Any]
    ) -> _Running:
        kind = str(plugin["type"])
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.interface,
            "CNI_PATH": ":".join(self.plugin_path),
            "CNI_ARGS": ";".join(f"{k}={v}" for k, v in {"IgnoreUnknown": "1", **attachment.args}.items()),
        }
        process = attachment.node.popen(
            [self._find(command, kind, attachment)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        if process.stdin is not None:
            try:
                process.stdin.write(json.dumps(document))
                process.stdin.close()
            except BrokenPipeError:
                # A plugin may die before it reads: _collect tells how.
                process.stdin = None
        return _Running(attachment, kind, process)

    def _find(self, command: str, kind: str, attachment: Attachment) -> str:
        if "/" in kind:
            raise CniError(command, kind, attachment.pod, "a plugin's type is the name of a program, without '/'")
        for directory in self.plugin_path:
            path = f"{directory}/{kind}"
            if os.access(attachment.node.path(path), os.X_OK):
                return path
        where = f"{', '.join(self.plugin_path)} of {attachment.node.name}"
        raise CniError(command, kind, attachment.pod, f"no program of that name in {where}")

    def _collect(self, command: str, running: _Running) -> Mapping[str, Any] | CniError:
        process = running.process
        process.stdin = None
        try:
            output, complaint = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            return CniError(command, running.plugin, running.attachment.pod, "no answer within 60 s; killed")
        try:
            document = json.loads(output) if output.strip() else {}
        except json.JSONDecodeError:
            document = {"msg": f"answered with something that is not JSON: {output[:200]!r}"}
            process.returncode = process.returncode or 1
        if process.returncode == 0:
            return document if isinstance(document, dict) else {}
        said = document.get("msg") or complaint.strip() or f"ended with {process.returncode} and said nothing"
        return CniError(
            command,
            running.plugin,
            running.attachment.pod,
            said,
            int(document.get("code", 0)),
            str(document.get("details", "")),
        )


Work = tuple[Attachment, Mapping[str, Any]]
"""An attachment, and the plugin that is to be called for it."""


def turns(work: Sequence[Work], *, one_a_node: bool) -> Iterator[Sequence[Work]]:
    """Cut work into what runs at the same time, AT_ONCE at most (pure).

    `one_a_node`: the pods of one node come one after the other, in their order.  host-local gives the next free address
    to whoever gets its lock first (plugins/ipam/host-local), so that of two pods that come together either might get
    either.
    """
    rounds: list[Sequence[Work]] = [work]
    if one_a_node:
        queues: dict[int, list[Work]] = {}
        for each in work:
            queues.setdefault(each[0].node.pid, []).append(each)
        rounds = [[each for each in found if each is not None] for found in zip_longest(*queues.values())]
    for some in rounds:
        yield from (some[at : at + AT_ONCE] for at in range(0, len(some), AT_ONCE))


def _longest(attachments: Sequence[Attachment]) -> int:
    return max((len(a.config.plugins) for a in attachments), default=0)
