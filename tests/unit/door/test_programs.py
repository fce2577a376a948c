"""Programs that are unpacked and not installed: where they are looked for, what is fetched, what is told of them."""

import os
import subprocess

import pytest

from hoplab.setup import programs
from tests.unit.door.clones import program

SIMULATION = """\
NOTE: This is only a simulation!
Reading package lists...
Inst libpcre2-8-0 [10.42-1] (10.42-1+deb12u1 Debian:12.15/oldstable [amd64])
Inst nginx-common (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [all])
Inst nginx (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64]) []
Conf libpcre2-8-0 (10.42-1+deb12u1 Debian:12.15/oldstable [amd64])
Conf nginx (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64])
"""


class System:
    """Stands where subprocess.run is called: a machine with these packages in its lists, and a mirror."""

    def __init__(self, known=("nginx", "haproxy"), outdated=False, mirror=True, needs=()):
        self.known, self.outdated, self.mirror, self.needs = known, outdated, mirror, needs
        self.commands = []

    def __call__(self, command, **options):
        self.commands.append(list(command))
        output, code = "", 0
        fresh = any("Dir::State::Lists" in word for word in command)
        if command[0] == "apt-cache":
            listed = command[-1] in self.known and (fresh or not self.outdated)
            output, code = (f"Package: {command[-1]}\n", 0) if listed else ("", 100)
        elif "--simulate" in command:
            names = (*self.needs, *command[command.index("--no-install-recommends") + 1 :])
            output = "".join(f"Inst {name} (1.0-1 Debian:12 [amd64])\n" for name in names)
        elif "update" in command:
            output, code = ("", 0) if self.mirror else ("E: no network\n", 100)
        elif "download" in command:
            for each in command[command.index("download") + 1 :]:
                with open(os.path.join(options["cwd"], f"{each.partition('=')[0]}.deb"), "w"):
                    pass
        elif command[0] == "dpkg-deb":
            name = os.path.basename(command[2]).removesuffix(".deb")
            os.makedirs(f"{command[3]}/usr/sbin", exist_ok=True)
            with open(f"{command[3]}/usr/sbin/{name}", "w") as file:
                os.fchmod(file.fileno(), 0o755)
        return subprocess.CompletedProcess(command, code, output, "")

    def did(self, word):
        return sum(word in command for command in self.commands)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any of the programs, and a project whose .venv is there."""
    wanted = tuple(p for p in programs.PROGRAMS if p.program in ("nginx", "haproxy"))
    monkeypatch.setattr(programs, "PROGRAMS", wanted)
    monkeypatch.setattr(programs.Package, "found", lambda package: "")
    monkeypatch.setattr(programs.shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / ".venv").mkdir()
    return tmp_path


def make(here, system, monkeypatch):
    lines = []
    monkeypatch.setattr(programs.subprocess, "run", system)
    programs.make(str(here), lines.append)
    return lines


class TestFind:
    def test_an_installed_program_comes_first(self, tmp_path, monkeypatch):
        program(tmp_path / "bin" / "some-server", "")
        program(tmp_path / ".venv" / "programs" / "usr" / "sbin" / "some-server", "")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        found = programs.find("some-server", str(tmp_path))
        assert found == programs.Found(str(tmp_path / "bin" / "some-server"))
        assert found.environment() == {}

    def test_an_unpacked_one_comes_with_its_libraries(self, tmp_path):
        unpacked = tmp_path / ".venv" / "programs"
        path = program(unpacked / "usr" / "sbin" / "some-server", "")
        (unpacked / "usr" / "lib" / "x86_64-linux-gnu").mkdir(parents=True)
        found = programs.find("some-server", str(tmp_path))
        assert found is not None
        assert found.path == str(path)
        assert found.environment() == {"LD_LIBRARY_PATH": f"{unpacked}/usr/lib/x86_64-linux-gnu"}

    def test_neither(self, tmp_path):
        assert programs.find("some-server", str(tmp_path)) is None


def test_what_apt_would_install_or_upgrade_is_fetched_in_that_version():
    assert programs.to_fetch(SIMULATION) == [
        "libpcre2-8-0=10.42-1+deb12u1",
        "nginx-common=1.22.1-9+deb12u11",
        "nginx=1.22.1-9+deb12u11",
    ]


class TestMake:
    def test_nothing_is_installed_and_a_second_call_does_nothing(self, bare, monkeypatch):
        system = System()
        assert all("unpacking" in line for line in make(bare, system, monkeypatch))
        assert all("--simulate" in command for command in system.commands if "install" in command)
        assert system.did("update") == 0
        assert programs.missing(str(bare)) == []
        done = len(system.commands)
        assert make(bare, system, monkeypatch) == []
        assert len(system.commands) == done

    def test_outdated_lists_are_fetched_anew_into_a_folder_that_does_not_stay(self, bare, monkeypatch):
        system = System(outdated=True)
        make(bare, system, monkeypatch)
        update = next(command for command in system.commands if "update" in command)
        lists = next(word.partition("=")[2] for word in update if word.startswith("Dir::State::Lists"))
        assert not os.path.exists(lists)
        assert programs.missing(str(bare)) == []

    def test_what_a_system_does_not_have_is_told_once_and_keeps_nothing_else_away(self, bare, monkeypatch):
        system = System(known=("nginx",))
        lines = make(bare, system, monkeypatch)
        assert "going on without haproxy: the package lists of this system have none of that name" in lines
        assert [package.program for package in programs.missing(str(bare))] == ["haproxy"]
        assert make(bare, system, monkeypatch) == []

    def test_without_a_network_the_set_up_goes_on_and_tries_again_next_time(self, bare, monkeypatch):
        system = System(outdated=True, mirror=False)
        for _ in range(2):
            lines = make(bare, system, monkeypatch)
            assert lines[-1].startswith("going on without nginx, haproxy:")
            assert "E: no network" in lines[-1]

    def test_a_newer_c_library_is_not_taken_from_a_folder(self, bare, monkeypatch):
        lines = make(bare, System(needs=("libc6",)), monkeypatch)
        assert "newer libc6" in lines[-1]
        assert len(programs.missing(str(bare))) == 2

    def test_another_distribution_is_told_what_to_install(self, bare, monkeypatch):
        monkeypatch.setattr(programs.shutil, "which", lambda name: None)
        (line,) = make(bare, System(), monkeypatch)
        assert "nginx (" in line
        assert "haproxy (" in line


def test_each_program_says_what_works_without_it():
    assert {package.program for package in programs.PROGRAMS} == programs.WITHOUT.keys()
