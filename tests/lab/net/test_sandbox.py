"""The sandbox: what is inside stays inside, and its ending is told as any process' is."""

import os
import subprocess
from pathlib import Path

import pytest

from hoplab.net import sandbox

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_the_exit_code_comes_through(code):
    assert sandbox.run(lambda: code) == code


def test_an_exception_is_told_and_is_exit_1(capfd):
    def inside():
        raise ValueError("inside")

    assert sandbox.run(inside) == 1
    assert "ValueError: inside" in capfd.readouterr().err


def test_it_is_process_1_with_no_way_out(tmp_path):
    told = tmp_path / "told.txt"

    def inside():
        links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
        routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
        told.write_text(f"{os.getpid()} {links.split()[0]} {len(links.splitlines())} [{routes.strip()}]")
        return 0

    assert sandbox.run(inside) == 0
    assert told.read_text() == "1 lo 1 []"


@pytest.mark.parametrize(
    "path", ["/etc/hoplab-was-here", "/run/hoplab-was-here", "/var/lib/hoplab-was-here", "/var/log/x"]
)
def test_what_is_written_inside_is_not_there_outside(path):
    def inside():
        Path(path).write_text("x")
        return 0

    assert sandbox.run(inside) == 0
    assert not Path(path).exists()


def test_sysctls_of_the_machine_cannot_be_written():
    def inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        try:
            Path("/proc/sys/kernel/hostname").write_text("broken")
        except OSError:
            return 7
        return 0

    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    assert sandbox.run(inside) == 7
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


@pytest.mark.parametrize(
    ("uid", "apparmor", "words"),
    [(0, False, "--privileged"), (1000, True, "apparmor_restrict_unprivileged_userns=0"), (1000, False, "sudo")],
)
def test_a_refusal_says_how_to_go_on(uid, apparmor, words):
    text = sandbox.refusal_text(uid, "unshare: Operation not permitted", apparmor)
    assert words in text
    assert "Operation not permitted" in text
