"""How test runs treat lab tests that can't run, and a host that changed: a guard that can't fail guards nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.host import Host

ROOT = Path(__file__).resolve().parents[3]


def item(*marks: str, needs: tuple[str, ...] = ()) -> pytest.Item:
    wanted = [pytest.mark.needs(*needs).mark] if needs else []
    return SimpleNamespace(  # type: ignore[return-value]
        get_closest_marker=lambda name: name if name in marks else None, iter_markers=lambda name: wanted
    )


class TestLabTests:
    @pytest.fixture(autouse=True)
    def machine_without_labs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conftest, "lacking", lambda: "missing: nft (nftables)")

    def test_they_are_skipped_with_the_reason(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match=r"can't run a lab. missing: nft \(nftables\)"):
            conftest.pytest_runtest_setup(item("lab"))

    def test_in_ci_they_fail_with_the_reason(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match=r"CI=true.* missing: nft \(nftables\)"):
            conftest.pytest_runtest_setup(item("lab"))

    def test_others_run(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CI", "true")
        conftest.pytest_runtest_setup(item())
        conftest.pytest_runtest_setup(item(needs=("sh",)))

    def test_a_program_that_only_some_need_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match=r"missing: no-such-server. .*--setup"):
            conftest.pytest_runtest_setup(item(needs=("sh", "no-such-server")))


class TestHost:
    def test_left_alone_it_is_the_same(self):
        assert Host.now().changes(Host.now()) == []

    def test_a_change_names_the_fact_and_both_values(self):
        assert Host({"mtu": "1500", "gone": "1"}).changes(Host({"mtu": "9000", "new": "2"})) == [
            "gone: was '1', is '(none)'",
            "mtu: was '1500', is '9000'",
            "new: was '(none)', is '2'",
        ]

    @pytest.mark.lab
    @pytest.mark.parametrize(
        ("command", "fact"),
        [
            ("ip link add one type veth peer name other", "link one"),
            ("ip link set lo up", "link lo"),
            ("ip link set lo up && ip address add 192.0.2.1/24 dev lo", "routes"),
            ("sysctl -qw net.ipv4.ip_forward=1", "/proc/sys/net/ipv4/ip_forward"),
            ("nft add table ip left-behind", "rules"),
            ("mount -t tmpfs tmpfs /mnt", "mounts"),
        ],
    )
    def test_every_kind_of_change_is_seen(self, command: str, fact: str):
        """Each is made in namespaces of its own, with a /sys that shows their links, between two looks."""
        script = (
            "import json, subprocess, sys; from tests.host import Host;"
            " subprocess.run(['mount', '-t', 'sysfs', 'sysfs', '/sys'], check=True); before = Host.now();"
            " subprocess.run(['sh', '-e', '-c', sys.argv[1]], check=True);"
            " print(json.dumps(before.changes(Host.now())))"
        )
        own = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
        done = subprocess.run(
            [*own, sys.executable, "-c", script, command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert fact in [change.partition(":")[0] for change in json.loads(done.stdout)]

    @pytest.mark.lab
    @pytest.mark.parametrize("workers", ["-n0", "-n2"])
    @pytest.mark.parametrize(("command", "code"), [("ip link set lo up", 1), ("true", 0)])
    def test_a_run_that_changed_it_fails_and_says_what(self, workers: str, command: str, code: int, tmp_path: Path):
        """A run of two tests in namespaces of its own, where one of them changes what that run takes for the host."""
        tests = tmp_path / "test_two.py"
        tests.write_text(
            f"import subprocess\ndef test_a(): subprocess.run({command.split()}, check=True)\ndef test_b(): pass\n"
        )
        own = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
        shown = ["sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh", sys.executable, "-m", "pytest"]
        options = [workers, "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(tmp_path / "none.ini")]
        (tmp_path / "none.ini").write_text("[pytest]\n")
        done = subprocess.run(
            [*own, *shown, *options, str(tests)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "2 passed" in done.stdout
        assert ("this run changed the host" in done.stdout) is bool(code)
        assert ("link lo: was" in done.stdout) is bool(code)
