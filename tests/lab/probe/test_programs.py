"""Programs inside a machine: when they count as ready, how their end is told, reload, and that nothing stays."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from hoplab.net import programs
from hoplab.net.namespaces import Namespace
from hoplab.net.programs import ProgramFailed, Ready
from hoplab.net.zygote import NodeSpec, PodSpec, ProgramSpec, SpawnFailed, Zygote
from hoplab.setup.programs import find
from tests.waiting import until

pytestmark = pytest.mark.lab
InSandbox = Callable[[Callable[[], None]], None]
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

NGINX = """
daemon off; user root; worker_processes 1; pid /run/web.pid; error_log stderr notice;
events { }
http {
  access_log /dev/stdout;
  client_body_temp_path /run/web-body; proxy_temp_path /run/web-proxy; fastcgi_temp_path /run/web-fastcgi;
  uwsgi_temp_path /run/web-uwsgi; scgi_temp_path /run/web-scgi;
  server { listen 8080; return 200 "WORDS\n"; }
}
"""
HAPROXY = """
global
  log stdout format raw local0
defaults
  mode tcp
  timeout client 5s
  timeout server 5s
  timeout connect 5s
listen web
  bind :8081
  server one 127.0.0.1:8080
"""


def machine() -> tuple[Zygote, Namespace]:
    zygote = Zygote()
    (pid,) = zygote.nodes([NodeSpec("machine")])
    return zygote, Namespace("machine", pid)


def spec(inside: Namespace, *argv: str, **files: str) -> ProgramSpec:
    return ProgramSpec(f"machine: {argv[0]}", inside.pid, argv, PATH, files=files)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_life_and_end_of_small_programs(in_sandbox: InSandbox, tmp_path: Path) -> None:
    def body() -> None:
        zygote, inside = machine()
        log = str(tmp_path / "log")

        # Argument list, environment, folder and files are those that were asked for, and a run's output is its own.
        told = ProgramSpec(
            "machine: sh",
            inside.pid,
            ["sh", "-c", "pwd; cat /etc/greeting; echo $WHOM $#; hostname", "sh", "a b", "c"],
            {**PATH, "WHOM": "world"},
            "/usr",
            {"/etc/greeting": "hello\n"},
        )
        program = programs.start(zygote, told, log)
        assert program.wait(5) == 0
        assert program.output() == "/usr\nhello\nworld 2\nmachine\n"
        assert not Path("/etc/greeting").exists()

        # A program that can't be executed is told by the kernel's word.
        with pytest.raises(SpawnFailed, match=r"machine: no-such-thing: `no-such-thing` can't be run: no such program"):
            programs.start(zygote, spec(inside, "no-such-thing"), log)

        # One that ends before it is ready: command, exit code, last words.
        with pytest.raises(ProgramFailed, match=r"`sh -c echo out of cheese; exit 3` ended with 3: out of cheese"):
            programs.start(zygote, spec(inside, "sh", "-c", "echo out of cheese; exit 3"), log, Ready((("TCP", 80),)))

        # One that never listens: what was waited for, and it does not stay.
        with pytest.raises(ProgramFailed, match=r"waited 0.2 s for listening on 80/TCP of `sleep 99`, in vain"):
            programs.start(zygote, spec(inside, "sleep", "99"), log, Ready((("TCP", 80),), within_s=0.2))

        # First output, then an end by a signal that nobody in the lab sent.
        talker = programs.start(zygote, spec(inside, "sh", "-c", "echo here; sleep 99 & wait"), log, Ready(output=True))
        assert talker.output() == "here\n"
        assert talker.fault() == ""
        os.kill(talker.pid, signal.SIGKILL)
        until(lambda: talker.fault() != "", "news of the program's end", 5)
        assert "was ended by SIGKILL: here" in talker.fault()

        # Stopping takes the whole group, and is no fault.
        group = programs.start(zygote, spec(inside, "sh", "-c", "sleep 98 & echo $!; wait"), log, Ready(output=True))
        child = int(group.output())
        group.stop()
        until(lambda: is_gone(child) and is_gone(group.pid), "the end of the whole group", 5)
        assert group.fault() == ""

        # With grace, the program may end in its own way.
        polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
        graceful = programs.start(zygote, spec(inside, "sh", "-c", polite), log, Ready(output=True))
        graceful.stop(grace_s=5)
        assert graceful.ended == 0
        assert graceful.output() == "up\nbye\n"

    in_sandbox(body)


def test_a_pod_with_a_tmp_of_its_own_sees_what_it_is_shown_there_and_cannot_write_to_it(
    in_sandbox: InSandbox, tmp_path: Path
) -> None:
    """A checkout below /tmp has its unpacked programs there, and pods run them."""
    below_tmp = Path(tempfile.mkdtemp(dir="/tmp"))
    shown, hidden = below_tmp / "shown", below_tmp / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "word").write_text("seen\n")

    def body() -> None:
        zygote, node = machine()
        (pid,) = zygote.pods([PodSpec("pod/p", node.pid, "cni-p", "p", {}, {}, {}, [str(shown)])])
        script = 'cat "$1/word"; test -e "$2" || echo hidden; echo more > "$1/word" || echo refused'
        command = ["sh", "-c", script, "sh", str(shown), str(hidden)]
        program = programs.start(zygote, ProgramSpec("pod/p: sh", pid, command, PATH), str(tmp_path / "log"))
        assert program.wait(5) == 0
        said = program.output().splitlines()
        assert (said[:2], said[-1]) == (["seen", "hidden"], "refused")

    try:
        in_sandbox(body)
        assert (shown / "word").read_text() == "seen\n"
    finally:
        shutil.rmtree(below_tmp)


@pytest.mark.needs("nginx", "haproxy", "dnsmasq")
def test_the_real_servers_run_and_reload(in_sandbox: InSandbox, tmp_path: Path) -> None:
    def body() -> None:
        zygote, inside = machine()
        log = str(tmp_path / "log")

        def run(program: str, ready: Ready, *arguments: str, **files: str) -> programs.RunningProgram:
            found = find(program)
            assert found is not None
            argv = [found.path, *arguments]
            environment = {**PATH, **found.environment()}
            return programs.start(zygote, ProgramSpec(program, inside.pid, argv, environment, files=files), log, ready)

        config = {"/etc/web.conf": NGINX.replace("WORDS", "one")}
        web = run("nginx", Ready((("TCP", 8080),)), "-e", "stderr", "-c", "/etc/web.conf", **config)
        proxy = run("haproxy", Ready((("TCP", 8081),)), "-f", "/etc/proxy.cfg", **{"/etc/proxy.cfg": HAPROXY})
        options = "--no-daemon --conf-file=/dev/null --no-resolv --log-facility=- --pid-file"
        names = run("dnsmasq", Ready((("UDP", 53), ("TCP", 53))), *options.split())
        with inside.entered():

            def ask(port: int) -> str:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    return str(answer.read().decode())

            assert (ask(8080), ask(8081)) == ("one\n", "one\n")
            web.reload({"/etc/web.conf": NGINX.replace("WORDS", "two")})
            until(lambda: ask(8080) == "two\n", "an answer by the new configuration", 5)
        assert '"GET / HTTP/1.1" 200' in web.output()
        for each in (web, proxy, names):
            assert each.ended is None
            each.stop(grace_s=5)
            assert each.ended in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert programs.ports_in_namespace(inside.pid, "TCP") == set()

    in_sandbox(body)
