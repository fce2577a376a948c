"""The controller's configuration in the real nginx: which backend a request reaches, and what annotations do to it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hoplab.cluster.ingress import exchanged, workers
from hoplab.ingress import nginx
from hoplab.ingress.rules import Options
from hoplab.ingress.settings import global_settings
from hoplab.ingress.words import SCRATCH
from hoplab.net import programs
from hoplab.net.namespaces import Namespace
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.programs import Ready
from hoplab.net.zygote import NodeSpec, ProgramSpec, Zygote
from hoplab.setup.programs import find
from tests.unit.ingress.build import ingress, plan

pytestmark = [pytest.mark.lab, pytest.mark.needs("nginx", "openssl")]
InSandbox = Callable[[Callable[[], None]], None]
NG = "nginx.ingress.kubernetes.io"
BACKENDS = ("web", "api", "old", "wild", "default-http-backend")


def address(backend: str) -> str:
    return f"10.9.9.{BACKENDS.index(backend) + 1}"


def service(name: str, namespace: str = "default") -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{ports: [{{port: 80, targetPort: 8080}}]}}\n---\n"
        f"apiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"subsets: [{{addresses: [{{ip: {address(name)}}}], ports: [{{port: 8080}}]}}]\n"
    )


def secret(name: str, **data: bytes) -> str:
    pairs = ", ".join(f"{key.replace('_', '.')}: {base64.b64encode(value).decode()}" for key, value in data.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{pairs}}}\n"


PATHS = ingress(
    "Prefix / web:80",
    "Prefix /a/b api:80",
    "Exact /a/b old:80",
    "ImplementationSpecific /start old:80",
    "Prefix /slash/ api:80",
    "Prefix /nobody nobody:80",
    name="paths",
    host="paths.example",
)
NOBODY = "apiVersion: v1\nkind: Service\nmetadata: {name: nobody}\nspec: {ports: [{port: 80}]}\n"
MANIFESTS = [
    NOBODY,
    PATHS,
    ingress("Prefix / wild:80", name="wild", host="*.wild.example"),
    ingress("Prefix / old:80", name="exact", host="a.wild.example"),
    ingress("Prefix /only api:80", name="only", host="only.example"),
    ingress("ImplementationSpecific /x(/|$)(.*) web:80", "Exact /same api:80", "Prefix /pre api:80", name="rewritten",
            host="rewritten.example", annotations=[f"{NG}/rewrite-target: /to/$2"]),
    ingress("ImplementationSpecific /v[0-9]+/ web:80", name="regex", host="regex.example",
            annotations=[f'{NG}/use-regex: "true"']),
    ingress("Prefix /here web:80", name="old-rewrite", host="old.example",
            annotations=["ingress.kubernetes.io/rewrite-target: /"]),
    ingress("Prefix / web:80", name="root", host="root.example", annotations=[f"{NG}/app-root: /start"]),
    ingress("Prefix / web:80", name="moved", host="moved.example",
            annotations=[f"{NG}/permanent-redirect: https://new.example/x", f'{NG}/permanent-redirect-code: "308"']),
    ingress("Prefix / web:80", name="body", host="body.example", annotations=[f'{NG}/proxy-body-size: "10"']),
    ingress("Prefix / web:80", name="denied", host="denied.example",
            annotations=[f"{NG}/whitelist-source-range: 192.0.2.0/24"]),
    ingress("Prefix / web:80", name="allowed", host="allowed.example",
            annotations=[f"{NG}/whitelist-source-range: 192.0.2.0/24,127.0.0.0/8"]),
    ingress("Prefix / web:80", name="users", host="users.example",
            annotations=[f"{NG}/auth-type: basic", f"{NG}/auth-secret: users"]),
    ingress("Prefix / web:80", name="cors", host="cors.example",
            annotations=[f'{NG}/enable-cors: "true"', f"{NG}/cors-allow-origin: https://b.example"]),
    ingress("Prefix / web:80", name="errors", host="errors.example", annotations=[f"{NG}/custom-http-errors: 503,418"]),
    ingress("Prefix / web:80", name="limit", host="limit.example",
            annotations=[f'{NG}/limit-rps: "1"', f'{NG}/limit-burst-multiplier: "2"']),
    ingress("Prefix / web:80", name="snippet", host="snippet.example",
            annotations=[f"{NG}/configuration-snippet: 'add_header X-Mine yes;'"]),
    ingress("Prefix / web:80", name="vhost", host="vhost.example",
            annotations=[f"{NG}/upstream-vhost: inside.example", f"{NG}/x-forwarded-prefix: /p"]),
    ingress("Prefix / web:80", name="tls", host="tls.example", more="tls: [{hosts: [tls.example], secretName: cert}]"),
    ingress("Prefix / web:80", name="plain-tls", host="both.example", annotations=[f'{NG}/ssl-redirect: "false"'],
            more="tls: [{hosts: [both.example], secretName: cert}]"),
    ingress("Prefix / web:80", name="stable", host="canary.example"),
    ingress("Prefix / api:80", name="canary", host="canary.example",
            annotations=[f'{NG}/canary: "true"', f'{NG}/canary-weight: "30"', f"{NG}/canary-by-header: X-New",
                         f"{NG}/canary-by-cookie: fresh"]),
    ingress("ImplementationSpecific /x(.*) web:80", name="value", host="value.example",
            annotations=[f"{NG}/rewrite-target: /y$1"]),
    ingress("ImplementationSpecific /x(.*) api:80", name="value-canary", host="value.example",
            annotations=[f'{NG}/canary: "true"', f"{NG}/canary-by-header: X-New", f"{NG}/canary-by-header-value: v2"]),
    ingress("Prefix / web:80", name="sticky", host="sticky.example", annotations=[f"{NG}/affinity: cookie"]),
]  # fmt: skip

ROUTES = [
    ("paths.example", "/", "web"),
    ("paths.example", "/a", "web"),
    ("paths.example", "/a/b", "old"),
    ("paths.example", "/a/b/", "api"),
    ("paths.example", "/a/b/c", "api"),
    ("paths.example", "/a/bc", "web"),
    ("paths.example", "/start", "old"),
    ("paths.example", "/starting", "old"),
    ("paths.example", "/slash", "api"),
    ("paths.example", "/slash/x", "api"),
    ("paths.example", "/slashes", "web"),
    ("PATHS.example:80", "/a", "web"),
    ("a.wild.example", "/", "old"),
    ("b.wild.example", "/", "wild"),
    ("b.c.wild.example", "/", "default-http-backend"),
    ("wild.example", "/", "default-http-backend"),
    ("only.example", "/only/x", "api"),
    ("only.example", "/other", "default-http-backend"),
    ("nobody.example", "/", "default-http-backend"),
    ("rewritten.example", "/x/one", "web"),
    ("rewritten.example", "/same", "api"),
    ("rewritten.example", "/same/not", "default-http-backend"),
    ("rewritten.example", "/pre/x", "api"),
    ("rewritten.example", "/prefix", "default-http-backend"),
    ("regex.example", "/v12/x", "web"),
    ("regex.example", "/V1/x", "web"),
    ("regex.example", "/vx/", "default-http-backend"),
]


def certificate(folder: Path) -> tuple[bytes, bytes]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(cert), "-subj", "/CN=tls.example",
         "-addext", "subjectAltName=DNS:tls.example,DNS:both.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert.read_bytes(), key.read_bytes()


def ask(host: str, path: str = "/", *, method: str = "GET", body: bytes = b"", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=5)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, body or None, {"Host": host, **named})
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    connection.close()
    return answer


def test_requests_reach_what_the_objects_say(in_sandbox: InSandbox, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)

    def body() -> None:
        zygote = Zygote()
        (pid,) = zygote.nodes([NodeSpec("machine")])
        inside = Namespace("machine", pid)
        # A pod has its own; a machine's is the host's.
        inside.run(["mount", "-t", "tmpfs", "tmpfs", "/tmp"])
        options = Options(default_backend="kube-system/default-http-backend")
        objects = "---\n".join(
            [
                *(service(name) for name in BACKENDS[:-1]),
                service("default-http-backend", "kube-system"),
                secret("cert", tls_crt=cert, tls_key=key),
                secret("users", auth=b"ann:{PLAIN}secret\n"),
            ]
        )

        def files(*manifests: str, **config_map: str) -> dict[str, str]:
            shared, wrong = global_settings({k.replace("_", "-"): v for k, v in config_map.items()}, "ConfigMap")
            made = plan(*manifests, options=options, shared=shared, objects=objects)
            assert (wrong, made.warnings) == ((), ())
            return dict(nginx.write(made, options, shared).files)

        log = str(tmp_path / "log")
        with open(log, "wb") as told:
            for name in BACKENDS:
                inside.run(["ip", "address", "add", f"{address(name)}/32", "dev", "lo"])
                style = "defaultbackend" if name.startswith("default") else "whoami"
                config = ServerConfig(name, (Listener(8080, "TCP", address(name)),), style=style)
                zygote.server(name, pid, config.to_mapping(), told.fileno())
        found = find("nginx")
        assert found is not None
        program = programs.start(
            zygote,
            ProgramSpec(
                "machine: nginx",
                pid,
                [found.path, "-e", "stderr", "-c", nginx.CONFIG],
                found.environment(),
                files={f"{SCRATCH}/.keep": "", **files(*MANIFESTS)},
            ),
            log,
            Ready((("TCP", 80), ("TCP", 443), ("TCP", 10254))),
        )
        with inside.entered():
            routes()
            annotations()
            headers()
            encrypted(cert)
            reloaded(program, files)

    in_sandbox(body)


def routes() -> None:
    reached = [(host, path, ask(host, path).headers["X-Hoplab-Pod"]) for host, path, _ in ROUTES]
    assert reached == ROUTES
    assert ask("paths.example", "/nobody").status == 503
    assert (ask("nobody.example").status, ask("nobody.example").text) == (404, "default backend - 404")


def told(host: str, path: str = "/", **headers: str) -> dict[str, object]:
    answer = ask(host, path, **headers)
    assert answer.status == 200, answer.text
    found = json.loads(answer.text)
    assert isinstance(found, dict)
    return found


def annotations() -> None:
    assert told("rewritten.example", "/x/one/two?q=1")["path"] == "/to/one/two"
    assert told("old.example", "/here/there")["path"] == "/there"
    assert told("old.example", "/here")["path"] == "/"
    assert [ask("root.example").status, ask("root.example").headers["Location"]] == [302, "http://root.example/start"]
    moved = ask("moved.example")
    assert (moved.status, moved.headers["Location"]) == (308, "https://new.example/x")
    assert ask("body.example", method="POST", body=b"x" * 10).status == 200
    assert ask("body.example", method="POST", body=b"x" * 11).status == 413
    assert (ask("denied.example").status, ask("allowed.example").status) == (403, 200)
    right = "Basic " + base64.b64encode(b"ann:secret").decode()
    wrong = "Basic " + base64.b64encode(b"ann:guess").decode()
    assert [ask("users.example", **h).status for h in ({}, {"Authorization": wrong}, {"Authorization": right})] == [
        401, 401, 200,
    ]  # fmt: skip
    asked = ask("cors.example", method="OPTIONS", Origin="https://b.example")
    assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, "https://b.example")
    assert ask("cors.example").headers["Access-Control-Allow-Credentials"] == "true"
    assert (ask("errors.example", "/status/418").status, ask("errors.example", "/status/418").text) == (
        418,
        "default backend - 418",
    )
    assert ask("errors.example", "/status/404").headers["X-Hoplab-Pod"] == "web"
    assert sorted({ask("limit.example").status for _ in range(5)}) == [200, 503]
    assert ask("snippet.example").headers["X-Mine"] == "yes"
    asked_by = [{"X_New": "always"}, {"X_New": "never", "Cookie": "fresh=always"}, {"Cookie": "fresh=always"}]
    assert [ask("canary.example", **each).headers["X-Hoplab-Pod"] for each in asked_by] == ["api", "web", "api"]
    shares = [ask("canary.example").headers["X-Hoplab-Pod"] for _ in range(60)]
    assert set(shares) == {"web", "api"}
    assert 4 <= shares.count("api") <= 34
    assert [told("value.example", "/xa", **each)["pod"] for each in ({"X_New": "v2"}, {"X_New": "v1"})] == [
        "api",
        "web",
    ]
    assert told("value.example", "/xa", X_New="v2")["path"] == "/ya"
    first = ask("sticky.example")
    assert first.headers["Set-Cookie"].startswith("INGRESSCOOKIE=")
    again = ask("sticky.example", Cookie=first.headers["Set-Cookie"].partition(";")[0])
    assert again.headers["Set-Cookie"] is None


def headers() -> None:
    seen = told("paths.example", X_Forwarded_For="6.6.6.6", Proxy="evil")["headers"]
    assert isinstance(seen, dict)
    assert {k: seen[k] for k in ("host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port")} == {
        "host": "paths.example",
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-port": "80",
    }
    assert seen["x-original-forwarded-for"] == "6.6.6.6"
    assert "proxy" not in seen
    other = told("vhost.example")["headers"]
    assert isinstance(other, dict)
    assert (other["host"], other["x-forwarded-prefix"]) == ("inside.example", "/p")
    assert other["x-real-ip"] == "127.0.0.1"


def encrypted(cert: bytes) -> None:
    context = ssl.create_default_context(cadata=cert.decode())
    for host, plain in (("tls.example", 308), ("both.example", 200)):
        assert ask(host).status == plain
        with socket.create_connection(("127.0.0.1", 443), timeout=5) as raw:
            with context.wrap_socket(raw, server_hostname=host) as secure:
                secure.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                text = b"".join(iter(lambda: secure.recv(65536), b"")).decode()
        assert text.startswith("HTTP/1.1 200 OK")
        assert "Strict-Transport-Security: max-age=31536000; includeSubDomains" in text
        assert '"x-forwarded-proto": "https"' in text.lower()
    assert ask("tls.example").headers["Location"] == "https://tls.example/"
    with socket.create_connection(("127.0.0.1", 443), timeout=5) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="paths.example")


def reloaded(program: programs.RunningProgram, files: Callable[..., dict[str, str]]) -> None:
    """New objects, new answers; and a proxy before this one that is believed."""
    assert ask("late.example").status == 404
    late = ingress("Prefix / api:80", name="late", host="late.example")
    before = workers(program.pid)
    program.reload(files(*MANIFESTS, late, use_forwarded_headers="true", compute_full_forwarded_for="true"))
    program.wait_until(lambda: exchanged(program.pid, before), 5, "new workers")
    assert ask("late.example").status == 200
    seen = told("late.example", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https")["headers"]
    assert isinstance(seen, dict)
    assert (seen["x-real-ip"], seen["x-forwarded-proto"]) == ("192.0.2.7", "https")
    assert seen["x-forwarded-for"].startswith("192.0.2.7")
