"""What counts as missing, how it is installed, and what is said when it can't be."""

import os
import subprocess

import pytest

from hoplab.setup import packages
from hoplab.setup.packages import CNI_PLACES, PACKAGES, Package


class Apt:
    """Stands where subprocess.run is called: notes commands, fails the one that it is told to."""

    def __init__(self, failing=""):
        self.commands, self.failing = [], failing

    def __call__(self, command, **_options):
        self.commands.append(list(command))
        code = 1 if self.failing and self.failing in command else 0
        return subprocess.CompletedProcess(command, code, "one\ntwo\n", "E: Unable to fetch some archives\n")


@pytest.fixture
def apt(monkeypatch):
    made = Apt()
    monkeypatch.setattr(packages.subprocess, "run", made)
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


def told():
    lines = []
    return lines, lines.append


class TestMissing:
    def test_a_program_counts_wherever_it_is(self, tmp_path, monkeypatch):
        package = Package("some", "some-program-of-mine", "testing", places=())
        assert packages.missing([package]) == [package]
        (tmp_path / "some-program-of-mine").write_text("")
        (tmp_path / "some-program-of-mine").chmod(0o755)
        monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
        assert packages.missing([package]) == []

    def test_a_cni_plugin_is_looked_for_in_the_plugins_places_alone(self, tmp_path, monkeypatch):
        plugins = next(package for package in PACKAGES if package.places is CNI_PLACES)
        (tmp_path / plugins.program).write_text("")
        (tmp_path / plugins.program).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert not plugins.found().startswith(str(tmp_path))


class TestInstall:
    def test_update_then_install_without_recommended_packages(self, apt):
        lines, say = told()
        assert packages.install(["mininet"], {"mininet": "mnexec"}, say) == ""
        update, install = apt.commands
        assert update[-1] == "update"
        assert install[-3:] == ["install", "--no-install-recommends", "mininet"]
        assert "DEBIAN_FRONTEND=noninteractive" in install
        assert lines == ["installing mininet: mnexec"]

    def test_a_failure_shows_aptitudes_last_words_and_what_to_do(self, apt):
        apt.failing = "update"
        problem = packages.install(["mininet"], {"mininet": "mnexec"}, told()[1])
        assert "E: Unable to fetch some archives" in problem
        assert "call again" in problem
        assert len(apt.commands) == 1

    def test_an_ordinary_user_installs_by_sudo(self, apt, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert packages.install(["nftables"], {"nftables": "rules"}, told()[1]) == ""
        assert all(command[:2] == ["/usr/bin/sudo", "-n"] for command in apt.commands)

    def test_an_ordinary_user_without_sudo_is_told_what_to_type(self, apt, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        apt.failing = "true"
        problem = packages.install(["nftables", "curl"], {"nftables": "rules", "curl": "client"}, told()[1])
        assert "sudo apt-get install --no-install-recommends nftables curl" in problem

    def test_no_debian(self, apt, monkeypatch):
        monkeypatch.setattr(packages.shutil, "which", lambda name: None)
        problem = packages.install(["nftables"], {"nftables": "rules"}, told()[1])
        assert "no Debian or Ubuntu" in problem
        assert "nftables (rules)" in problem


class TestMake:
    def test_nothing_missing_runs_nothing(self, apt, monkeypatch):
        monkeypatch.setattr(packages, "missing", lambda: [])
        assert packages.make(told()[1]) == ""
        assert apt.commands == []

    @pytest.mark.parametrize(("needed", "stops"), [(True, True), (False, False)])
    def test_only_what_a_lab_needs_stops_the_set_up(self, apt, monkeypatch, needed, stops):
        apt.failing = "update"
        absent = Package("nice", "nice-program", "to have", needed)
        monkeypatch.setattr(packages, "missing", lambda: [absent])
        lines, say = told()
        assert bool(packages.make(say)) is stops
        if not stops:
            assert lines[-1].startswith("going on without nice")

    @pytest.mark.parametrize(
        ("interpreter", "has_it", "installed"),
        [
            ("/usr/bin/python3.12", False, ["python3.12-venv"]),
            ("/usr/bin/python3.12", True, []),
            ("/opt/python", False, []),
        ],
    )
    def test_debians_pythons_need_a_package_to_make_venvs(self, apt, interpreter, has_it, installed):
        assert packages.make_venv_module(interpreter, has_it, told()[1]) == ""
        assert [command[-1] for command in apt.commands if "install" in command] == installed


def test_every_needed_package_says_what_it_is_for():
    assert {package.name for package in PACKAGES if package.needed} >= {
        "mininet",
        "containernetworking-plugins",
        "iptables",
        "nftables",
        "iproute2",
    }
    assert all(package.purpose for package in PACKAGES)
