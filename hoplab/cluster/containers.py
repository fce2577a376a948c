"""How a container runs: as a real program, as a command of the machine, or stood in for (pure).

An image's name stands for a program with its defaults: `nginx` for nginx and the page that
its image brings, the ingress controller for nginx with what the cluster's objects say.
A shell's image with a command runs that command, by the machine's own programs, in the
pod's namespaces.  Everything else is the lab's own small server (hoplab.cluster.images).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hoplab.cluster.images import SILENT, base_name
from hoplab.cluster.pod_values import expanded
from hoplab.ingress.words import SCRATCH, quoted, temporary_paths
from hoplab.kube.types import Container, Pod

Kind = Literal["stand-in", "command", "nginx", "ingress", "dns"]
CONTROLLERS = ("nginx-ingress-controller", "nginx-ingress-controller-amd64", "controller")
"""Base names of the ingress controller's image: of 2017 (gcr.io/google_containers), and ingress-nginx/controller."""
NAME_SERVERS = ("hoplab/dns", "coredns")
"""Base names of images that stand for the cluster's name server, whose program is unbound."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HTML = "/usr/share/nginx/html"
CONF_D = "/etc/nginx/conf.d"
NGINX_CONF = "/etc/nginx/nginx.conf"
TYPES: Mapping[str, str] = {
    "text/html": "html htm",
    "text/plain": "txt",
    "text/css": "css",
    "application/javascript": "js",
    "application/json": "json",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
}
"""Of the image's mime.types, what a lesson may serve."""

ENTRYPOINTS: Mapping[str, tuple[str, ...]] = {"curl": ("curl",)}
"""Images whose entrypoint is a program that takes the container's args."""

SHELLS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bash", "debian", "ubuntu"), ("bash",)),
    "python": ("python3",),
}
"""What these images start without a command; the others start `sh`."""


@dataclass(frozen=True, slots=True)
class Run:
    """A program to run in a pod; `environment` is what it adds to the container's own."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    listening: tuple[int, ...] = ()
    """TCP ports on which it must listen before it counts as started."""


def kind_of(container: Container) -> Kind:
    """What is started for a container where every program is there."""
    name = base_name(container.image)
    if name in CONTROLLERS and (name != "controller" or "ingress-nginx" in container.image):
        return "ingress"
    if name in NAME_SERVERS:
        return "dns"
    if name == "nginx":
        words = (*container.command, *container.args)
        own = not container.command and words[:1] != ("sh",)
        return "nginx" if own or container.command[0].rpartition("/")[2] == "nginx" else "command"
    if name in SILENT and name != "pause" and (container.command or container.args or _is_typed_at(container)):
        return "command"
    return "stand-in"


def _is_typed_at(container: Container) -> bool:
    """Whether a shell's image without a command is to be its shell (`kubectl run -it --image=busybox box`)."""
    return bool(container.document.get("stdin")) and base_name(container.image) not in ENTRYPOINTS


def ignored(pod: Pod) -> Iterator[tuple[str, Container]]:
    """What a pod asks of its network that the lab's pods don't have, and the container to tell it of."""
    if pod.host_network:
        yield (
            "hostNetwork: in the lab every pod has a network of its own; nothing listens on the node",
            pod.containers[0],
        )
        return
    for container in pod.containers:
        ports: Any = container.document.get("ports") or ()
        for port in ports:
            if port.get("hostPort"):
                number = port["hostPort"]
                yield (
                    f"hostPort {number}: the lab's nodes have none; a Service of type NodePort is the way in",
                    container,
                )


def stop_signal(container: Container) -> int:
    """How a container is asked to end: by its image's own word, SIGQUIT of nginx' (it finishes its requests)."""
    return signal.SIGQUIT if kind_of(container) in ("nginx", "ingress") else signal.SIGTERM


def is_contained(pod: Pod) -> bool:
    """Whether the pod's programs must be kept from the machine's files."""
    return bool(pod.volumes) or any(kind_of(each) != "stand-in" for each in (*pod.containers, *pod.init_containers))


def command(container: Container, variables: Mapping[str, str], on_machine: Callable[[str], bool]) -> Run:
    """The command of a container, as its image would run it; `on_machine` tells whether there is such a program."""
    name = base_name(container.image)
    entrypoint = container.command or ENTRYPOINTS.get(name, ())
    if not entrypoint and not container.args:
        entrypoint = SHELLS.get(name, ("sh",))
    argv = [expanded(word, variables) for word in (*entrypoint, *container.args)]
    if argv[0] == "python" and not on_machine("python") and on_machine("python3"):
        argv[0] = "python3"
    return Run(by_busybox(argv, on_machine))


def by_busybox(argv: Sequence[str], on_machine: Callable[[str], bool]) -> tuple[str, ...]:
    """The same command by the machine's busybox, where only that may have it: nslookup, nc, httpd, ...

    A path that is none of a program's folders is left alone: it may be a script of a volume's.
    """
    folder, _, name = argv[0].rpartition("/")
    if (folder in PATH.split(":") or "/" not in argv[0]) and not on_machine(argv[0]) and on_machine("busybox"):
        return ("busybox", name, *argv[1:])
    return tuple(argv)


def nginx(container: Container, pod: Pod, program: str, volumes: Mapping[str, Mapping[str, str]], *, ipv6: bool) -> Run:
    """nginx as its image runs it: port 80, the welcome page, what is mounted into its folders.

    Answers carry the pod's name and the client as nginx saw it (X-Hoplab-Pod, X-Hoplab-Client), as the lab's own
    server's do.
    """
    written = {f"{path}/{name}".rstrip("/"): text for path, files in volumes.items() for name, text in files.items()}
    if NGINX_CONF in written:
        return _with_own_configuration(program, written)
    files = {NGINX_CONF: _main_config(pod), f"{SCRATCH}/.keep": ""}
    if CONF_D in volumes:
        listening = listened(written)
    else:
        listening = tuple(port.port for port in container.ports if port.protocol == "TCP") or (80,)
        root = HTML if any(path == HTML or path.startswith(f"{HTML}/") for path in volumes) else f"{SCRATCH}/html"
        files[f"{CONF_D}/default.conf"] = _default_server(listening, ipv6, root)
        if root != HTML:
            files[f"{root}/index.html"] = WELCOME
    # Before any configuration is read, nginx opens the log that it was built with; -e gives it another one.
    return Run((program, "-e", "stderr", "-c", NGINX_CONF), {}, files, listening)


def _with_own_configuration(program: str, written: Mapping[str, str]) -> Run:
    """nginx with a whole nginx.conf of the writer's, who counts on what the image has: its user, logs and types."""
    types = "".join(f"    {kind} {ends};\n" for kind, ends in TYPES.items())
    files = {"/etc/nginx/mime.types": f"types {{\n{types}}}\n", "/var/lib/nginx/.keep": "", "/var/log/nginx/.keep": ""}
    argv = ("sh", "-c", LIKE_THE_IMAGE, "sh", program, "-e", "stderr", "-c", NGINX_CONF, "-g", "daemon off;")
    return Run(argv, {}, {path: text for path, text in files.items() if path not in written}, listened(written))


LIKE_THE_IMAGE = """\
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
for each in passwd group; do
  grep -q ^nginx: /etc/$each && continue
  { cat /etc/$each; [ $each = group ] && echo nginx:x:0: || echo nginx:x:0:0::/:/bin/false; } > /etc/$each.new
  mv /etc/$each.new /etc/$each
done
exec "$@"
"""


def listened(files: Mapping[str, str]) -> tuple[int, ...]:
    """The ports that nginx configurations listen on, by their own words (pure): what a start waits for."""
    found: dict[int, None] = {}
    for path, text in files.items():
        if path.endswith((".conf", "nginx.conf")):
            plain = re.sub(r"#.*", "", text)
            for match in re.finditer(r"(?:^|[;{}\s])listen\s+(?:[^\s;]*:)?(\d+)(?=[\s;])(?![^;]*\budp\b)", plain):
                found[int(match[1])] = None
    return tuple(found)


def _main_config(pod: Pod) -> str:
    lines = [
        "# What the image's own nginx.conf comes to; `include` takes what the pod mounts.",
        "daemon off;",
        "user root;",
        "worker_processes 1;",
        f"pid {SCRATCH}/nginx.pid;",
        "error_log stderr notice;",
        "events { worker_connections 1024; }",
        "http {",
        "    default_type application/octet-stream;",
        f"    types {{ {'; '.join(f'{kind} {ends}' for kind, ends in TYPES.items())}; }}",
        '    log_format main \'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
        ' "$http_referer" "$http_user_agent" "$http_x_forwarded_for"\';',
        "    access_log /dev/stdout main;",
        *(f"    {line}" for line in temporary_paths(SCRATCH)),
        "    map $remote_addr $hoplab_client {",
        '        "~:" "[$remote_addr]:$remote_port";',
        '        default "$remote_addr:$remote_port";',
        "    }",
        f"    add_header X-Hoplab-Pod {quoted(pod.meta.name)} always;",
        "    add_header X-Hoplab-Client $hoplab_client always;",
        "    keepalive_timeout 65;",
        f"    include {CONF_D}/*.conf;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _default_server(ports: Sequence[int], ipv6: bool, root: str) -> str:
    listen = [f"    listen {port};" for port in ports] + [f"    listen [::]:{port};" for port in ports if ipv6]
    return "\n".join(
        [
            "server {",
            *listen,
            "    server_name localhost;",
            f"    root {root};",
            "    index index.html;",
            "}",
            "",
        ]
    )


def image_files(
    container: Container, volumes: Mapping[str, Mapping[str, str]], wrapper: str = ""
) -> dict[str, dict[str, str]]:
    """What an image has that the machine may not have, as volumes.

    nginx' page, where a writer's own files may count on it and don't take its place; and the program's name, for who
    types it in the pod (`wrapper`: a script that runs it, where it is not installed on the machine).
    """
    if kind_of(container) not in ("nginx", "ingress"):
        return {}
    found = {"/usr/sbin/nginx": {"": wrapper}} if wrapper else {}
    if any(path.startswith(("/etc/nginx", f"{HTML}/")) for path in volumes) and HTML not in volumes:
        found[HTML] = {"index.html": WELCOME}
    return found


WELCOME = """\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is the lab's own; the server that sent it is nginx itself.</p>
</body>
</html>
"""
