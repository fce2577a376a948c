"""What probes and hooks do, against real servers and programs of this machine: each way to succeed and to fail."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest

from hoplab.cluster.handlers import Handlers
from hoplab.kube.types import Container, ContainerPort
from hoplab.net.loop import Loop
from hoplab.net.timers import Timers

WORKER = SimpleNamespace(
    agent=SimpleNamespace(namespace=SimpleNamespace(entered=contextlib.nullcontext)),
    running=SimpleNamespace(ips=("127.0.0.1",), namespace=SimpleNamespace(argv=list)),
)


def outcome(action, ports=(), timeout_s=2.0):
    """Whether it went well, and what was said."""
    loop, told = Loop(), []
    container = Container("c", "x", ports=tuple(ports))
    handlers = Handlers(loop, Timers(loop))
    handlers.run(WORKER, container, action, timeout_s, lambda good, said: told.append((good, said)))
    loop.run_until(lambda: bool(told), 10.0, "an outcome")
    return told[0]


@contextlib.contextmanager
def server(answer, context=None):
    """A server that says the same to everybody, None: nothing; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                connection, _address = listening.accept()
                with connection if context is None else context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(4096)
                    if answer is None:
                        stream.recv(4096)
                    else:
                        stream.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "good", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", True, ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "HTTP probe failed with statuscode: 404"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False, "HTTP probe failed with statuscode: 503"),
        (b"hello\r\n", False, "HTTP probe failed with statuscode: 0"),
        (b"", False, "EOF"),
    ],
)
def test_http(answer, good, said):
    with server(answer) as port:
        found = outcome({"httpGet": {"path": "/", "port": port}})
    assert found[0] is good
    assert said in found[1]


def test_http_without_an_answer_is_over_when_its_time_is():
    with server(None) as port:
        assert outcome({"httpGet": {"port": port}}, timeout_s=0.05) == (False, "timed out after 0.05s")


def test_https_asks_for_no_certificate_that_anybody_knows(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with server(b"HTTP/1.1 200 OK\r\n\r\n", context) as port:
        assert outcome({"httpGet": {"port": port, "scheme": "HTTPS"}})[0]
    with server(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert not outcome({"httpGet": {"port": port, "scheme": "HTTPS"}})[0]


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pod")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = folder / "pod.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption()))
    return path


def test_tcp():
    with server(b"") as port:
        assert outcome({"tcpSocket": {"port": port}}) == (True, "")
    port = free_port()
    assert outcome({"tcpSocket": {"port": port}}) == (
        False,
        f"dial tcp 127.0.0.1:{port}: connect: connection refused",
    )


def test_a_port_may_have_a_name():
    with server(b"") as port:
        assert outcome({"tcpSocket": {"port": "web"}}, [ContainerPort(port, name="web")])[0]
    assert outcome({"tcpSocket": {"port": "web"}}) == (False, "the container has no port called 'web'")


@pytest.mark.parametrize(
    ("command", "good", "said"),
    [
        (["true"], True, ""),
        (["sh", "-c", "echo not yet; exit 3"], False, "not yet"),
        (["false"], False, "command exited with 1"),
        (["no-such-program-anywhere"], False, "No such file or directory"),
        (["sleep", "30"], False, "timed out after 0.1s"),
    ],
)
def test_commands(command, good, said):
    found = outcome({"exec": {"command": command}}, timeout_s=2.0 if command[0] != "sleep" else 0.1)
    assert found[0] is good
    assert said in found[1]


def test_waiting_and_what_cannot_be_done_here():
    assert outcome({"sleep": {"seconds": 0}}) == (True, "")
    good, said = outcome({"grpc": {"port": 80}})
    assert not good
    assert "use httpGet, tcpSocket or exec" in said
