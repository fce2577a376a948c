"""The pod server on real sockets, spoken to by plain sockets and by curl."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from hoplab.net.namespaces import Namespace
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.podserver import serve
from hoplab.net.zygote import NodeSpec, Zygote

pytestmark = pytest.mark.lab
InSandbox = Callable[[Callable[[], None]], None]


@dataclass
class Running:
    """A server in a child process of the test."""

    pid: int
    said: str
    log: int

    def end(self, number: int = signal.SIGTERM) -> int:
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def log_line(self) -> str:
        assert select.select([self.log], [], [], 5)[0], "the server logged nothing within 5 s"
        return os.read(self.log, 4096).decode()


def start(config: ServerConfig) -> Running:
    """Fork a server and hear what it says when it is ready, or why it can't be."""
    told_read, told_write = os.pipe()
    log_read, log_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(log_write, 1)
        serve(config, told_write)
    os.close(told_write)
    os.close(log_write)
    with os.fdopen(told_read) as told:
        return Running(pid, told.read(), log_read)


@contextmanager
def server(config: ServerConfig) -> Iterator[Running]:
    running = start(config)
    assert running.said == "ready\n"
    yield running
    running.end(signal.SIGKILL)


@contextmanager
def network() -> Iterator[None]:
    """A fresh network namespace with loopback up and a second address on it."""
    zygote = Zygote()
    (pid,) = zygote.nodes([NodeSpec("net")])
    namespace = Namespace("net", pid)
    with namespace.entered():
        namespace.run(["ip", "address", "add", "10.9.9.9/32", "dev", "lo"])
        yield


def connect(address: str = "127.0.0.1", port: int = 80) -> socket.socket:
    return socket.create_connection((address, port), timeout=5)


def read_until_end(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "--max-time", "5", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


WEB = ServerConfig("web", (Listener(80), Listener(53, "UDP")), node="node1")


def test_curl_gets_its_answers(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB) as running:
            told = json.loads(curl("--local-port", "41000", "http://10.9.9.9/x?token=t1"))
            assert (told["pod"], told["ip"], told["client"]) == ("web", "10.9.9.9", "10.9.9.9:41000")
            assert (told["path"], told["token"], told["headers"]["host"]) == ("/x", "t1", "10.9.9.9")
            assert '"GET /x?token=t1 HTTP/1.1" 200' in running.log_line()
            assert curl("http://[::1]/clientip").startswith("[::1]:")
            assert "200 OK" in curl("-I", "http://127.0.0.1/")
            assert (
                json.loads(curl("-H", "Transfer-Encoding: chunked", "-d", "abc", "http://127.0.0.1/"))["body"] == "abc"
            )
            big = "x" * 2_000_000
            posted = subprocess.run(
                ["curl", "-sS", "-H", "Expect: 100-continue", "--data-binary", "@-", "http://127.0.0.1/"],
                input=big,
                capture_output=True,
                text=True,
                check=True,
            )
            assert json.loads(posted.stdout)["body"] == big
            assert len(curl("http://127.0.0.1/bytes/5000000")) == 5_000_000
            twice = curl("-w", "%{num_connects} ", "http://127.0.0.1/hostname", "http://127.0.0.1/hostname")
            assert twice == "web1 web0 "

    in_sandbox(body)


def test_pipelined_requests_are_answered_in_order_also_behind_a_slow_one(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB), connect() as client:
            client.sendall(
                b"GET /slow?ms=50 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /hostname HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            answers = read_until_end(client)
            assert answers.count(b"HTTP/1.1 200 OK") == 2
            assert answers.index(b"answered after 50 ms") < answers.index(b"\r\n\r\nweb")

    in_sandbox(body)


def test_a_client_that_closes_its_half_still_gets_the_answer(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB), connect() as client:
            client.sendall(b"GET /slow?ms=30 HTTP/1.1\r\nHost: a\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert b"answered after 30 ms" in read_until_end(client)

    in_sandbox(body)


def test_a_bad_request_is_refused_and_the_server_stays(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB):
            with connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n")
                assert read_until_end(client).startswith(b"HTTP/1.1 431 ")
            with connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(b"GET /bytes/9000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert curl("http://127.0.0.1/hostname") == "web"

    in_sandbox(body)


def test_bytes_that_are_no_http_are_echoed(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB), connect() as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
            client.sendall(b"\x00\xff")
            assert client.recv(100) == b"\x00\xff"
            client.shutdown(socket.SHUT_WR)
            assert read_until_end(client) == b""

    in_sandbox(body)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.9.9.9", "::1"])
def test_a_datagram_is_answered_from_the_address_that_was_asked(in_sandbox: InSandbox, address: str) -> None:
    def body() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with network(), server(WEB), socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.bind(("::1" if ":" in address else "127.0.0.1", 0))
            client.sendto(b"token-1", (address, 53))
            answer, sender = client.recvfrom(4096)
            told = json.loads(answer)
            assert (told["echo"], told["ip"], told["port"]) == ("token-1", address, 53)
            assert told["client"].endswith(f":{client.getsockname()[1]}")
            assert sender[:2] == (address, 53)

    in_sandbox(body)


def test_udp_answers_carry_ip_ids_and_no_dont_fragment(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with (
            network(),
            server(WEB),
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as tap,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            tap.settimeout(5)
            client.bind(("10.9.9.9", 0))
            identities = set()
            for _ in range(3):
                client.sendto(b"x", ("127.0.0.1", 53))
                answer = tap.recv(4096)
                while answer[20:22] != struct.pack("!H", 53):
                    answer = tap.recv(4096)
                identity, fragment = struct.unpack("!HH", answer[4:8])
                assert fragment & 0x4000 == 0
                identities.add(identity)
            assert len(identities) == 3
            assert 0 not in identities

    in_sandbox(body)


def test_a_taken_port_is_reported_with_its_reason(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(WEB):
            second = start(ServerConfig("second", (Listener(8080), Listener(80))))
            assert second.said == "can't listen on TCP 0.0.0.0:80: Address already in use\n"
            assert second.wait() == 1
            foreign = start(ServerConfig("foreign", (Listener(81, "UDP", "10.7.7.7"),)))
            assert foreign.said == "can't listen on UDP 10.7.7.7:81: Cannot assign requested address\n"
            assert foreign.wait() == 1

    in_sandbox(body)


def test_bound_to_localhost_it_answers_there_alone(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network(), server(ServerConfig("local", (Listener(80, address="127.0.0.1"),))):
            assert curl("http://127.0.0.1/hostname") == "local"
            with pytest.raises(ConnectionRefusedError):
                connect("10.9.9.9")

    in_sandbox(body)


def test_faults(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network():
            with server(ServerConfig("closing", (Listener(80),), fault="close")), connect() as client:
                assert read_until_end(client) == b""
            # The RST may overtake the end of connect() itself.
            with (
                server(ServerConfig("resetting", (Listener(80),), fault="reset")),
                pytest.raises(ConnectionResetError),
                connect() as client,
            ):
                client.recv(1)
            with (
                server(ServerConfig("silent", (Listener(80), Listener(53, "UDP")), fault="silent")),
                connect() as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert select.select([client], [], [], 0.1)[0] == []

    in_sandbox(body)


@pytest.mark.parametrize("signals", [(), (signal.SIGSTOP, signal.SIGCONT)], ids=["awake", "asleep"])
def test_sigterm_finishes_what_is_under_way_and_takes_nothing_new(
    in_sandbox: InSandbox, signals: tuple[signal.Signals, ...]
) -> None:
    """Asleep in between, the server finds the connections, the request and SIGTERM all at once."""

    def body() -> None:
        with network():
            running = start(WEB)
            for number in signals[:1]:
                os.kill(running.pid, number)
            with connect() as busy, connect() as idle:
                busy.sendall(b"GET /slow?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n")
                os.kill(running.pid, signal.SIGTERM)
                for number in signals[1:]:
                    os.kill(running.pid, number)
                assert idle.recv(1) == b""
                with pytest.raises(ConnectionRefusedError):
                    connect()
                answer = read_until_end(busy)
                assert b"answered after 200 ms" in answer
                assert b"Connection: close" in answer
            assert running.wait() == 0

    in_sandbox(body)


def test_a_shutdown_delay_serves_on_for_a_while(in_sandbox: InSandbox) -> None:
    def body() -> None:
        with network():
            running = start(ServerConfig("web", (Listener(80),), shutdown_delay_s=0.2))
            os.kill(running.pid, signal.SIGTERM)
            assert curl("http://127.0.0.1/hostname") == "web"
            assert running.wait() == 0

    in_sandbox(body)
