"""What an image name means here: a table from container images to the programs that stand in for them.

The lab pulls no images.  A name it knows gets a server that answers as that image
does; any other gets one that listens on the ports that the container declares, and
a warning that says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hoplab.kube.types import Container, ContainerPort

Style = Literal["whoami", "nginx", "echoserver", "defaultbackend"]


@dataclass(frozen=True, slots=True)
class Image:
    """How a container of this image behaves, and where it listens when the manifest does not say."""

    style: Style
    ports: tuple[ContainerPort, ...]


KNOWN: Mapping[str, Image] = {
    "hoplab/whoami": Image("whoami", (ContainerPort(80),)),
    "hoplab/responder": Image("whoami", ()),
    "nginx": Image("nginx", (ContainerPort(80),)),
    "httpd": Image("nginx", (ContainerPort(80),)),
    "echoserver": Image("echoserver", (ContainerPort(8080),)),
    "defaultbackend": Image("defaultbackend", (ContainerPort(8080),)),
    "defaultbackend-amd64": Image("defaultbackend", (ContainerPort(8080),)),
    "agnhost": Image("whoami", (ContainerPort(8080), ContainerPort(8081, "UDP"))),
    "whoami": Image("whoami", (ContainerPort(80),)),
    "hello-app": Image("whoami", (ContainerPort(8080),)),
    "hostnames": Image("whoami", (ContainerPort(9376),)),
    "serve_hostname": Image("whoami", (ContainerPort(9376),)),
}
SILENT = frozenset({"busybox", "alpine", "debian", "ubuntu", "bash", "python", "pause", "curl", "netshoot"})
"""Images that serve nothing: somebody's shell."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is started for one container; no ports means that nothing is.

    `startup_s`: how long the server runs before it listens; `shutdown_s`: how long it goes on listening after
    SIGTERM (an application that is slow to start, or kind when it ends).
    """

    style: Style
    ports: tuple[ContainerPort, ...]
    warning: str = ""
    startup_s: float = 0.0
    shutdown_s: float = 0.0


def base_name(image: str) -> str:
    """`registry.example/team/nginx:1.12@sha256:...` -> `nginx`; `hoplab/whoami` keeps its folder."""
    name = image.partition("@")[0]
    path, _, last = name.rpartition("/")
    last = last.partition(":")[0]
    return f"hoplab/{last}" if path == "hoplab" else last


STARTUP, SHUTDOWN = "HOPLAB_STARTUP_SECONDS", "HOPLAB_SHUTDOWN_SECONDS"
"""Environment variables of a container: how long its server takes to listen, and goes on listening after SIGTERM."""


def program(container: Container) -> Program:
    """What stands in for this container (pure)."""
    found = _program(container)
    startup, shutdown = _seconds(container, STARTUP), _seconds(container, SHUTDOWN)
    return replace(found, startup_s=startup, shutdown_s=shutdown) if startup or shutdown else found


def _seconds(container: Container, name: str) -> float:
    try:
        return max(0.0, float(container.env.get(name) or 0))
    except ValueError:
        return 0.0


def _program(container: Container) -> Program:
    name = base_name(container.image)
    if name in SILENT:
        # A shell image may still be made to serve by its declared ports.
        return Program("whoami", container.ports)
    known = KNOWN.get(name)
    if known is None:
        if not container.ports:
            return Program("whoami", (), f"unknown image {container.image!r} declares no port: nothing is started")
        listed = ", ".join(f"{port.port}/{port.protocol}" for port in container.ports)
        return Program("whoami", container.ports, f"unknown image {container.image!r}: a stand-in answers on {listed}")
    words = (*container.command, *container.args)
    if name == "agnhost" and words[:1] == ("pause",):
        return Program("whoami", ())
    told = _agnhost_ports(words) if name == "agnhost" else ()
    ports = told or known.ports
    declared = tuple(port for port in container.ports if (port.port, port.protocol) not in _numbers(ports))
    # nginx listens where its configuration says, whatever the manifest declares; the generic server goes along.
    return Program(known.style, ports + declared if known.style == "whoami" else (container.ports or ports))


def _numbers(ports: Sequence[ContainerPort]) -> set[tuple[int, str]]:
    return {(port.port, port.protocol) for port in ports}


def _agnhost_ports(words: Sequence[str]) -> tuple[ContainerPort, ...]:
    """`netexec --http-port=8080 --udp-port=8081 --sctp-port=...` (test/images/agnhost/netexec)."""
    found = []
    for word in words:
        match = re.fullmatch(r"--(http|udp|sctp)-port=(\d+)", word)
        if match and int(match[2]) > 0:
            protocol = {"http": "TCP", "udp": "UDP", "sctp": "SCTP"}[match[1]]
            found.append(ContainerPort(int(match[2]), protocol))  # type: ignore[arg-type]
    return tuple(found)
