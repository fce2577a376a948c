"""What a pod answers: one page in the style of the image that it stands in for.

A lab runs no container images.  What lessons need of them is that an answer tells
who answered and whom it saw: the address and port that the packet's source had
when it arrived at the pod is the proof of a masquerade, or of its absence.  Every
style therefore carries the two in `X-Hoplab-Pod` and `X-Hoplab-Client`; the body is
what the image itself would print.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import Literal

from hoplab.net.podhttp import Request, Response

Style = Literal["whoami", "nginx", "echoserver", "defaultbackend"]
STYLES: tuple[Style, ...] = ("whoami", "nginx", "echoserver", "defaultbackend")

LONGEST_DELAY_MS = 60_000
LARGEST_PAGE = 16 * 1024 * 1024
LONGEST_ECHO = 512
"""Bytes of a datagram that come back, so that the answer fits one frame of any usual MTU."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The pod that answers."""

    pod: str
    namespace: str = "default"
    node: str = ""
    image: str = ""


def endpoint(address: str, port: int) -> str:
    """IP:PORT, with brackets round an IPv6 address (RFC 3986 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def answer(
    who: Identity,
    style: Style,
    request: Request,
    local: tuple[str, int],
    client: tuple[str, int],
    proxied: str = "",
) -> Response:
    """The page for a request that arrived on `local` from `client` (address, port).

    `proxied`: whom a PROXY protocol header named as the client (IP:PORT); it is told in `X-Hoplab-Proxied`.
    """
    if style == "nginx":
        page = _nginx(who, request, local, client)
    elif style == "echoserver":
        page = _echoserver(request, local, client)
    elif style == "defaultbackend":
        page = _default_backend(request)
    else:
        page = _netexec(who, request, client) or _whoami(who, request, local, client)
    proxied_for = (("X-Hoplab-Proxied", proxied),) if proxied else ()
    told = (("X-Hoplab-Pod", who.pod), ("X-Hoplab-Client", endpoint(*client)), *proxied_for)
    return Response(page.status, page.body, page.content_type, page.headers + told, page.delay_s)


def refusal(who: Identity, status: int, why: str) -> Response:
    """The answer to a request that could not be read."""
    return Response(status, f"{why}\n".encode(), headers=(("X-Hoplab-Pod", who.pod),))


def datagram(who: Identity, payload: bytes, local: tuple[str, int], client: tuple[str, int]) -> bytes:
    """The answer to a datagram: one line of JSON with the payload's beginning and its size in it."""
    told = {
        "pod": who.pod,
        "namespace": who.namespace,
        "node": who.node,
        "ip": local[0],
        "port": local[1],
        "client": endpoint(*client),
        "bytes": len(payload),
        "echo": payload[:LONGEST_ECHO].decode("utf-8", "replace"),
    }
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def _whoami(who: Identity, request: Request, local: tuple[str, int], client: tuple[str, int]) -> Response:
    told: dict[str, object] = {
        "pod": who.pod,
        "namespace": who.namespace,
        "node": who.node,
        "ip": local[0],
        "port": local[1],
        "client": endpoint(*client),
        "method": request.method,
        "path": request.path,
        "host": request.header("host"),
        "headers": {name: request.header(name) for name, _ in request.headers},
        "token": request.query.get("token", ""),
    }
    if request.body:
        told["body"] = request.body.decode("utf-8", "replace")
    return Response(body=json.dumps(told).encode() + b"\n", content_type="application/json")


def _netexec(who: Identity, request: Request, client: tuple[str, int]) -> Response | None:
    """The paths of the `agnhost netexec` test image that network tests ask for, and a few of their kind.

    Source of the first four: kubernetes/kubernetes test/images/agnhost/netexec/netexec.go.
    """
    path, query = request.path, request.query
    if path == "/healthz":
        return Response(body=b"ok\n")
    if path in ("/hostname", "/hostName"):
        return Response(body=who.pod.encode())
    if path == "/clientip":
        return Response(body=endpoint(*client).encode())
    if path == "/echo":
        return Response(_number(query.get("code", ""), 200, 599) or 200, query.get("msg", "").encode())
    if path == "/slow":
        delay_ms = _number(query.get("ms", "1000"), 0, LONGEST_DELAY_MS)
        if delay_ms is None:
            return Response(400, f"ms must be a number from 0 to {LONGEST_DELAY_MS}\n".encode())
        return Response(body=f"answered after {delay_ms} ms\n".encode(), delay_s=delay_ms / 1000)
    kind, _, value = path[1:].partition("/")
    if kind == "status":
        status = _number(value, 200, 599)
        return Response(status or 400, b"" if status else b"a status is a number from 200 to 599\n")
    if kind == "bytes":
        size = _number(value, 0, LARGEST_PAGE)
        if size is None:
            return Response(400, f"a size is a number from 0 to {LARGEST_PAGE}\n".encode())
        pattern = b"0123456789abcdef" * (size // 16 + 1)
        return Response(body=pattern[:size], content_type="application/octet-stream")
    return None


def _nginx(who: Identity, request: Request, local: tuple[str, int], client: tuple[str, int]) -> Response:
    version = re.search(r"(?:^|/)nginx:(\d[\w.]*)", who.image)
    server = f"nginx/{version[1]}" if version else "nginx"
    headers = (("Server", server),)
    if request.method not in ("GET", "HEAD"):
        return Response(405, _nginx_error("405 Not Allowed", server), "text/html", headers)
    if request.path not in ("/", "/index.html"):
        return Response(404, _nginx_error("404 Not Found", server), "text/html", headers)
    where = f"{who.namespace}/{who.pod}" + (f" on {who.node}" if who.node else "")
    page = (
        "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n<body>\n"
        "<h1>Welcome to nginx!</h1>\n"
        f"<p>Pod {html.escape(where)}, {endpoint(*local)}, answers {endpoint(*client)}.</p>\n"
        "</body>\n</html>\n"
    )
    return Response(200, page.encode(), "text/html", headers)


def _nginx_error(title: str, server: str) -> bytes:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        f"<hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    ).encode()


def _echoserver(request: Request, local: tuple[str, int], client: tuple[str, int]) -> Response:
    """The form of gcr.io/google_containers/echoserver:1.4: header names sorted, no line end after the last line."""
    host = request.header("host")
    name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
    query = request.target.partition("?")[2]
    path = request.target.partition("?")[0]
    lines = [
        "CLIENT VALUES:",
        f"client_address={client[0]}",
        f"command={request.method}",
        f"real path={request.target}",
        f"query={query or 'nil'}",
        f"request_version={request.version[0]}.{request.version[1]}",
        f"request_uri=http://{name or local[0]}:{local[1]}{path}" + (f"?{query}" if query else ""),
        "",
        "SERVER VALUES:",
        "server_version=nginx: 1.10.0 - lua: 10001",
        "",
        "HEADERS RECEIVED:",
        *(f"{key}={request.header(key)}" for key in sorted({key for key, _ in request.headers})),
        "BODY:",
        request.body.decode("utf-8", "replace") or "-no body in request-",
    ]
    return Response(body="\n".join(lines).encode(), content_type="text/plain", headers=(("Server", "nginx/1.10.0"),))


def _default_backend(request: Request) -> Response:
    """As the image defaultbackend answers (ingress-nginx images/404-server): 404 for everything but its health.

    With the header X-Code, which a controller sends with an error that it has intercepted, it answers that code.
    """
    if request.path == "/healthz":
        return Response(body=b"ok")
    code = _number(request.header("x-code"), 400, 599) or 404
    return Response(code, f"default backend - {code}".encode())


def _number(text: str, least: int, most: int) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and least <= int(text) <= most else None
