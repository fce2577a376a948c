"""Clients that mean no good, or know no better: refused or served, in bounded memory, and the API goes on."""

import concurrent.futures
import contextlib
import json
import os
import random
import resource
import socket
import ssl
import struct
import time

import pytest

from hoplab.api import spdy
from hoplab.api.limits import Limits
from tests import waiting
from tests.lab.api.raw import ask, closed_within, connect, head, read_answer
from tests.lab.api.rig import PATIENCE_S, Rig

LIMITS = Limits(idle=1.0, handshake=1.0, body=1.0, connections=700, lasting=300)
CM = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module", autouse=True)
def many_descriptors():
    """Both ends of a thousand connections are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def rig(many_descriptors, tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("api"), living=False, limits=LIMITS) as made:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
        spec = {"nodeName": "node1", "containers": [{"name": "c", "image": "busybox"}]}
        ask(made, "POST", "/api/v1/namespaces/default/pods", json.dumps({**pod, "spec": spec}).encode())
        yield made
        answer = ask(made, "GET", "/version")
        assert answer.code == 200, "the API answers as before"


def memory_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


@pytest.mark.parametrize("path", ["/", "/version", "/healthz", "/api/v1/secrets", "/openapi/v3", "/nothing"])
def test_without_the_token_there_is_nothing(rig, path):
    wrong = [("Authorization", "Bearer wrong")], [("Authorization", f"Basic {rig.identity.token}")], []
    for headers in wrong:
        answer = ask(rig, "GET", path, token=False, headers=headers)
        assert answer.code == 401
        assert answer.status["reason"] == "Unauthorized"


def test_plain_http_gets_no_answer(rig):
    with socket.create_connection(("127.0.0.1", rig.port), PATIENCE_S) as plain:
        plain.sendall(head(rig, "GET", "/version"))
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in plain.recv(1000)


def test_a_body_of_100_mb_is_refused_at_its_head(rig):
    with connect(rig) as connection:
        connection.sendall(head(rig, "POST", CM, [("Content-Type", "application/json"), ("Content-Length", 100 << 20)]))
        answer = read_answer(connection)
    assert answer.code == 413
    assert answer.status["message"] == "Request entity too large: limit is 3145728"


def test_a_body_of_100_mb_in_chunks_is_refused_on_the_way(rig):
    before, piece = memory_kb(), b"x" * 65536
    chunk = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    with connect(rig) as connection:
        connection.sendall(
            head(rig, "POST", CM, [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
        )
        for _ in range(64):  # 4 MB of them
            connection.sendall(chunk)
        answer = read_answer(connection)
        assert answer.code == 413
        # What comes after the refusal is thrown away for a moment; then the connection is closed.
        with contextlib.suppress(OSError):
            for _ in range(1600):
                connection.sendall(chunk)
        assert closed_within(connection, 5)
    assert memory_kb() - before < 64_000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        ("application/json", b"[" * 500_000),
        ("application/json", b'{"metadata":' + b'{"a":' * 300 + b"1" + b"}" * 301),
        ("application/yaml", b"[" * 10_000 + b"]" * 10_000),
        (
            "application/yaml",
            b"a: &a [1]\nb: " + b"[" * 20 + b"*a" + b"]" * 20 + b"\nc: &c !!python/object:os.system {}\n",
        ),
        ("application/json", b"\xff\xfe{}"),
        ("application/json", b'{"n": ' + b"9" * 10_000 + b"}"),
        ("application/json", b'{"n": NaN}'),
        ("application/json", b"null"),
        ("application/json", b'"text"'),
        ("application/vnd.kubernetes.protobuf", b"k8s\0" + b"\x0a" * 1000),
        ("application/vnd.kubernetes.protobuf", b"nonsense"),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x12\xff\xff\xff\xff\x7f"),
    ],
)
def test_a_body_that_is_no_object_is_a_bad_request(rig, content_type, body):
    answer = ask(rig, "POST", CM, body, content_type)
    assert (answer.code, answer.status["reason"]) in ((400, "BadRequest"), (422, "Invalid"))


def test_aliases_do_not_multiply(rig):
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
    assert ask(rig, "POST", CM, "\n".join(lines).encode(), "application/yaml").code == 400


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "nonsense"]
)
def test_other_content_types_are_not_read(rig, content_type):
    answer = ask(rig, "POST", CM, b"{}", content_type)
    assert (answer.code, answer.status["reason"]) == (415, "UnsupportedMediaType")
    patch = ask(rig, "PATCH", f"{CM}/x", b"{}", content_type)
    assert patch.code in (404, 415)


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("/api/v1/namespaces/default/pods/../secrets", (400, 404)),
        ("/api/v1/namespaces/default/pods/..", (400,)),
        ("/api/v1/namespaces/default/pods/%2e%2e", (400,)),
        ("/api/v1/namespaces/default/pods/..%2F..%2Fsecrets", (400,)),
        ("/api/v1/namespaces/%2e%2e/pods", (400,)),
        ("/api/v1/namespaces/default/pods/a%00b", (400,)),
        ("/api/v1/namespaces/default/pods/a%0d%0aX: y", (400,)),
        ("/api/v1//namespaces//default", (404,)),
        ("/api/v1/namespaces/default/pods/x/exec/y/z", (404,)),
        ("/apis/apps/v9/deployments", (404,)),
        ("/api/v1/" + "a" * 5000, (400,)),
        ("/api/v1/namespaces/default/pods/" + "%41" * 100, (404,)),
        ("//api/v1/secrets", (200, 404)),
        ("/openapi/v3/apis/../../etc/passwd", (404,)),
        ("/api/v1/namespaces/default/pods?limit=-1", (400,)),
        ("/api/v1/namespaces/default/pods?limit=" + "9" * 100, (400,)),
        ("/api/v1/namespaces/default/pods?continue=AAAA", (400,)),
        ("/api/v1/namespaces/default/pods?continue=%00", (400,)),
        ("/api/v1/namespaces/default/pods?watch=1&resourceVersion=x", (400,)),
        ("/api/v1/namespaces/default/pods?labelSelector=" + "%28" * 1000, (400,)),
        ("/api/v1/namespaces/default/pods?fieldSelector=a%2Cb", (400,)),
    ],
)
def test_path_and_query_tricks_are_refused(rig, path, codes):
    answer = ask(rig, "GET", path.replace(" ", "%20"))
    assert answer.code in codes
    if answer.code != 200:
        assert answer.status["kind"] == "Status"


@pytest.mark.parametrize("name", ["../x", "a/b", "UPPER", "", "x" * 300, "a b", ".", "..", "-a"])
def test_names_in_bodies_are_checked(rig, name):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    answer = ask(rig, "POST", CM, json.dumps(body).encode())
    assert (answer.code, answer.status["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(
    "metadata",
    [
        1,
        [],
        "x",
        {"name": 1},
        {"name": "x", "labels": []},
        {"name": "x", "labels": {"a": 1}},
        {"name": "x", "finalizers": 3},
        {"name": "x", "managedFields": 7},
        {"name": "x", "annotations": {"a": {}}},
        {"name": "x", "ownerReferences": [1]},
    ],
)
def test_metadata_of_wrong_types_is_a_bad_request(rig, metadata):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    assert ask(rig, "POST", CM, json.dumps(body).encode()).code == 400


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        ("application/json-patch+json", [{"op": "add"}]),
        ("application/json-patch+json", {"op": "add"}),
        ("application/json-patch+json", [{"op": "remove", "path": "/metadata"}]),
        ("application/json-patch+json", [{"op": "replace", "path": "", "value": 1}]),
        ("application/json-patch+json", [{"op": "copy", "from": "/data", "path": "/data/x"}] * 10_001),
        ("application/json-patch+json", [{"op": "copy", "from": "/data", "path": "/data/x"}] * 40),
        ("application/merge-patch+json", []),
        ("application/merge-patch+json", {"metadata": 5}),
        ("application/merge-patch+json", {"metadata": {"managedFields": [3]}}),
        ("application/strategic-merge-patch+json", {"$patch": "nonsense"}),
        ("application/strategic-merge-patch+json", {"metadata": {"ownerReferences": [1]}}),
        ("application/strategic-merge-patch+json", {"data": 3}),
        ("application/apply-patch+yaml", {"apiVersion": "v1", "kind": "Secret"}),
        ("application/apply-patch+yaml", 3),
    ],
)
def test_patches_that_make_no_sense_are_refused(rig, media, patch):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "victim"}, "data": {"a": "b"}}
    ask(rig, "POST", CM, json.dumps(body).encode())
    answer = ask(rig, "PATCH", f"{CM}/victim?fieldManager=x", json.dumps(patch).encode(), media)
    assert answer.code in (400, 413, 422), answer.body
    assert json.loads(ask(rig, "GET", f"{CM}/victim").body)["data"] == {"a": "b"}


def test_half_a_request_is_waited_for_only_a_while(rig):
    with connect(rig) as connection:
        connection.sendall(head(rig, "GET", "/version")[:40])
        assert closed_within(connection, 5)


def test_a_slow_body_is_given_up(rig):
    with connect(rig) as connection:
        connection.sendall(
            head(rig, "POST", CM, [("Content-Type", "application/json"), ("Content-Length", 1000)]) + b"{"
        )
        answer = read_answer(connection)
    assert (answer.code, answer.status["reason"]) == (504, "Timeout")


def test_a_handshake_that_never_comes_is_given_up(rig):
    with socket.create_connection(("127.0.0.1", rig.port), PATIENCE_S) as plain:
        assert closed_within(plain, 5)


def test_noise_is_no_request(rig):
    noise = random.Random(3)
    for size in (1, 100, 5000):
        with (
            socket.create_connection(("127.0.0.1", rig.port), PATIENCE_S) as plain,
            contextlib.suppress(ConnectionError),
        ):
            plain.sendall(noise.randbytes(size))
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1000):
                pass
        with connect(rig) as connection, contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(noise.randbytes(size) + b"\r\n\r\n")
            assert read_answer(connection).code >= 400
    with connect(rig) as connection, contextlib.suppress(ConnectionError, ssl.SSLError):
        connection.sendall(head(rig, "GET", "/version", [("X-Long", "y" * 1_000_000)]))
        assert read_answer(connection).code >= 400


def test_unknown_methods_are_not_allowed(rig):
    for method in ("OPTIONS", "TRACE", "BREW", "CONNECT"):
        answer = ask(rig, method, CM)
        assert 400 <= answer.code < 500


def test_a_thousand_watches_are_served_or_refused_and_each_served_one_is_told(rig):
    before = memory_kb()
    request = head(rig, "GET", f"{CM}?watch=1&resourceVersion=0&fieldSelector=metadata.name%3Dseen")
    context = ssl.create_default_context(cadata=rig.identity.authority.decode())

    def watch(_number):
        plain = socket.create_connection(("127.0.0.1", rig.port), PATIENCE_S)
        try:
            connection = context.wrap_socket(plain, server_hostname="127.0.0.1")
            connection.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data and (received := connection.recv(4096)):
                data += received
        except OSError:
            plain.close()
            return None
        return connection, data

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        opened = [each for each in pool.map(watch, range(1000)) if each is not None]
    served = [connection for connection, data in opened if data.startswith(b"HTTP/1.1 200")]
    refused = [data for _connection, data in opened if data.startswith(b"HTTP/1.1 429")]
    assert len(served) == LIMITS.lasting
    assert refused
    # Those that were refused hang up, as they were asked to; the others are told what changes.
    for connection, data in opened:
        if not data.startswith(b"HTTP/1.1 200"):
            connection.close()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}, "data": {"a": "b"}}

    def told():
        # The server notices one after the other that the refused have hung up: until then there may be no place.
        with contextlib.suppress(ConnectionError):
            return ask(rig, "POST", CM, json.dumps(body).encode()).code
        return None

    assert waiting.until(told, "a place for another connection", PATIENCE_S) == 201
    for connection in served:
        data = b""
        while b'"name":"seen"' not in data:
            data += connection.recv(65536)
        assert b'"type":"ADDED"' in data
    assert memory_kb() - before < 300_000
    for connection in served:
        connection.close()
    until_served(rig)


def until_served(rig):
    """Watches of clients that are gone are noticed: others have their places."""
    deadline = time.monotonic() + PATIENCE_S
    while ask_watch(rig) != 200:
        assert time.monotonic() < deadline, "the places of watches that are gone are free again"


def ask_watch(rig):
    with connect(rig) as connection:
        connection.sendall(head(rig, "GET", f"{CM}?watch=1&timeoutSeconds=1"))
        return read_answer(connection).code


def test_a_watch_that_is_not_read_costs_no_memory_and_is_told_to_list_again(rig):
    with connect(rig) as connection:
        connection.sendall(head(rig, "GET", f"{CM}?watch=1&resourceVersion={rig.store.version}"))
        before, text = memory_kb(), "x" * 20_000
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": text}}
        ask(rig, "POST", CM, json.dumps(body).encode())
        with connect(rig) as writer:
            for number in range(3000):
                patch = json.dumps({"data": {"n": str(number)}}).encode()
                headers = [("Content-Type", "application/merge-patch+json"), ("Content-Length", len(patch))]
                writer.sendall(head(rig, "PATCH", f"{CM}/large", headers) + patch)
                assert read_answer(writer).code == 200
        # 3,000 changes of 20 KB are 60 MB; the store remembers 1,000 of them, which share their text.
        assert memory_kb() - before < 60_000
        seen = b""
        connection.settimeout(PATIENCE_S)
        while b'"code":410' not in seen[-2000:]:
            received = connection.recv(1 << 20)
            assert received, "the watch ends with 410, Expired"
            seen = seen[-2000:] + received


def upgrade(rig, path, headers):
    connection = connect(rig)
    connection.sendall(head(rig, "POST" if ("Upgrade", "SPDY/3.1") in headers else "GET", path, headers))
    return connection, read_answer(connection)


def test_spdy_noise_ends_the_connection_and_nothing_else(rig):
    path = "/api/v1/namespaces/default/pods/p/portforward"
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "portforward.k8s.io")]
    huge_frame = struct.pack(">II", 1, 0x00FFFFFF)
    bad_headers = spdy.control(spdy.SYN_STREAM, 0, b"\0" * 10 + b"no zlib at all")
    for noise in (os.urandom(100), huge_frame, bad_headers, b"\x80\x09" + b"\0" * 10):
        connection, answer = upgrade(rig, path, headers)
        assert answer.code == 101
        with connection:
            connection.sendall(noise)
            connection.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                if noise[:1] != b"\x80" and noise != huge_frame:
                    connection.unwrap()
                else:
                    assert connection.recv(100) == b""


def test_an_upgrade_that_nobody_speaks_is_refused(rig):
    path = "/api/v1/namespaces/default/pods/p/exec?command=true&stdout=1"
    websocket = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = [("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
    for headers in ([], [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")], [*websocket, *key]):
        connection, answer = upgrade(rig, path, headers)
        connection.close()
        assert answer.code in (400, 403)
        assert answer.status["kind"] == "Status"


def test_a_message_too_large_ends_a_websocket(rig):
    path = "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=1&stdout=1"
    headers = [
        *(("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        *(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")),
    ]
    connection, answer = upgrade(rig, path, headers)
    assert answer.code == 101
    with connection:
        connection.sendall(b"\x82\xff" + struct.pack(">Q", 1 << 30) + b"\0\0\0\0" + b"x" * 1000)
        connection.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while connection.recv(4096):
                pass
