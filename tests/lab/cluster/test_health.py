"""kube-proxy's health over real HTTP: where it listens, what it says to every path, in both families."""

import http.client
import os
import threading

import pytest

from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab


def asked(address, port, path):
    """Status, one header and body; the kind of error where nobody listens."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
    except OSError as error:
        return type(error).__name__
    answer = connection.getresponse()
    return answer.status, answer.headers["X-Content-Type-Options"], answer.read().decode()


def test_it_listens_where_it_shall_and_knows_its_paths():
    def inside():
        import subprocess

        from hoplab.cluster.health import Answer, HealthServer
        from hoplab.net.loop import Loop
        from hoplab.net.namespaces import Namespace

        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        loop, here = Loop(), Namespace("node1", os.getpid())

        def answer(path):
            return Answer(503, path) if path == "/healthz" else None

        HealthServer(loop, here, 10256, answer)
        HealthServer(loop, here, 30999, answer, ("127.0.0.1", "127.0.0.2"))
        threading.Thread(target=loop.run_until, args=(lambda: False, 60, "the test's end"), daemon=True).start()
        questions = [
            ("127.0.0.1", 10256, "/healthz"),
            ("::1", 10256, "/healthz"),
            ("127.0.0.1", 10256, "/"),
            ("127.0.0.2", 30999, "/healthz"),
            ("127.0.0.3", 30999, "/healthz"),
            ("::1", 30999, "/healthz"),
        ]
        return [asked(*question) for question in questions]

    well = (503, "nosniff", "/healthz")
    nobody = "ConnectionRefusedError"
    assert in_sandbox(inside) == [well, well, (404, "nosniff", "404 page not found\n"), well, nobody, nobody]
