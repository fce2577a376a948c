"""exec, attach, logs and port-forward by the real kubectl: over WebSockets (1.32) and over SPDY (Debian's)."""

import hashlib
import http.server
import os
import re
import subprocess
import threading
import urllib.request

import pexpect
import pytest

from tests import waiting
from tests.lab.api.rig import PATIENCE_S, Rig, kubectl_path, kubectls

pytestmark = pytest.mark.needs("kubectl")

POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec: {containers: [{name: c, image: busybox, ports: [{containerPort: 80, name: http}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: p}
spec: {selector: {app: p}, ports: [{port: 8080, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec: {containers: [{name: a, image: busybox}, {name: b, image: busybox}]}
"""
LARGE = os.urandom(3_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(LARGE)))
        self.end_headers()
        self.wfile.write(LARGE)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(digest)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("api")) as made:
        made.kubectl(kubectl_path("own"), "apply", "-f", "-", stdin=POD)
        made.kubectl(kubectl_path("own"), "wait", "--for=condition=Ready", "pod/p", "pod/two", "--timeout=20s")
        yield made


@pytest.fixture(params=kubectls())
def kubectl(request):
    return kubectl_path(request.param)


def until(condition, what):
    return waiting.until(condition, what, PATIENCE_S)


def test_a_command_has_its_output_its_errors_and_its_exit_code(rig, kubectl):
    ran = rig.kubectl(kubectl, "exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.returncode, ran.stdout) == (3, "out\n")
    assert ran.stderr.startswith("err\n")
    assert "command terminated with exit code 3" in ran.stderr


def test_standard_input_goes_in_whole_and_its_end_is_seen(rig, kubectl):
    ran = subprocess.run(
        [kubectl, "exec", "-i", "p", "--", "cat"],
        input=LARGE,
        capture_output=True,
        env=rig.environment(),
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0
    assert ran.stdout == LARGE


def test_a_command_that_is_not_there_says_so(rig, kubectl):
    ran = rig.kubectl(kubectl, "exec", "p", "--", "no-such-command")
    assert ran.returncode == 1
    assert 'exec: "no-such-command": No such file or directory' in ran.stderr


def test_a_signal_ends_a_command_with_128_and_its_number(rig, kubectl):
    assert rig.kubectl(kubectl, "exec", "p", "--", "sh", "-c", "kill -TERM $$").returncode == 143


def test_a_terminal_is_one_inside_too(rig, kubectl):
    """What is typed is echoed, the size is the client's, and the exit code comes through."""
    typed = ["exec", "-it", "p", "--", "sh", "-c", "tty; read x; stty size; exit 5"]
    terminal = pexpect.spawn(str(kubectl), typed, env=rig.environment(), dimensions=(33, 101), timeout=PATIENCE_S)
    terminal.expect(rb"/dev/pts/\d+\r\n")
    terminal.sendline("hello")
    terminal.expect_exact("hello\r\n")
    terminal.expect_exact("33 101\r\n")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 5


def test_the_container_must_be_named_where_there_are_two(rig, kubectl):
    # kubectl takes the first by itself, the API does not.
    ran = rig.kubectl(kubectl, "get", "--raw", "/api/v1/namespaces/default/pods/two/log")
    assert ran.returncode == 1
    assert "a container name must be specified for pod two, choose one of: [a b]" in ran.stderr
    assert "container nobody is not valid for pod two" in rig.kubectl(kubectl, "logs", "two", "-c", "nobody").stderr
    assert rig.kubectl(kubectl, "exec", "two", "-c", "b", "--", "true").returncode == 0


def test_a_log_is_shown_whole_in_part_and_with_times(rig, kubectl):
    log = rig.pods.log_of("p")
    for number in range(1, 6):
        log.write(f"line {number}", time_ns=1_700_000_000_000_000_000 + number)
    assert rig.kubectl(kubectl, "logs", "p").stdout == "".join(f"line {n}\n" for n in range(1, 6))
    assert rig.kubectl(kubectl, "logs", "p", "--tail=2").stdout == "line 4\nline 5\n"
    assert rig.kubectl(kubectl, "logs", "p", "--limit-bytes=10").stdout == "line 1\nlin"
    stamped = rig.kubectl(kubectl, "logs", "p", "--timestamps", "--tail=1").stdout
    assert stamped == "2023-11-14T22:13:20.000000005Z line 5\n"
    assert rig.kubectl(kubectl, "logs", "p", "--since=1s").stdout == ""
    previous = rig.kubectl(kubectl, "logs", "p", "--previous")
    assert 'previous terminated container "c" in pod "p" not found' in previous.stderr


def test_a_log_is_followed_until_it_ends(rig, kubectl):
    log = rig.pods.log_of("p")
    log.write("before")
    following = rig.start(kubectl, "logs", "-f", "p")
    assert following.stdout.readline() == "before\n"
    for number in range(100):
        log.write(f"now {number}")
    assert [following.stdout.readline() for _ in range(100)] == [f"now {n}\n" for n in range(100)]
    log.end()
    assert following.wait(PATIENCE_S) == 0


def test_attach_talks_to_the_containers_own_process(rig, kubectl):
    ran = rig.kubectl(kubectl, "attach", "-i", "p", stdin="to and fro\n")
    assert ran.stdout == "to and fro\n"


def test_port_forward_carries_connections_both_ways(rig, kubectl):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rig.pods.ports = {80: server.server_port}
    forward = rig.start(kubectl, "port-forward", "svc/p", ":8080")
    try:
        told = forward.stdout.readline()
        match = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 80", told)
        assert match, told
        address = f"http://127.0.0.1:{match[1]}/"
        for _ in range(3):
            assert urllib.request.urlopen(address, timeout=PATIENCE_S).read() == LARGE
        answer = urllib.request.urlopen(address, data=LARGE, timeout=PATIENCE_S).read()
        assert answer.decode() == hashlib.sha256(LARGE).hexdigest()
        server.shutdown()
        server.server_close()
        with pytest.raises(OSError, match=r".*"):
            urllib.request.urlopen(address, timeout=PATIENCE_S).read()
    finally:
        forward.terminate()
        forward.wait(PATIENCE_S)


def test_when_kubectl_goes_its_command_goes_too(rig, kubectl):
    lasting = rig.start(kubectl, "exec", "p", "--", "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(lasting.stdout.readline())
    assert os.path.exists(f"/proc/{pid}")
    lasting.kill()
    lasting.wait(PATIENCE_S)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the command inside ends")
