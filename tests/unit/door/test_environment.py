"""Which Python makes the environment, whose files it is, and two set-ups at once."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hoplab.setup import environment, stamp


class TestChoosePython:
    def test_the_running_one(self, monkeypatch):
        monkeypatch.setattr(environment, "_for_everybody", lambda program: True)
        monkeypatch.setattr(environment, "NEWEST", sys.version_info[:2])
        assert os.path.realpath(environment.choose_python()) == os.path.realpath(sys._base_executable)

    def test_one_of_the_same_version_that_everybody_may_run(self, monkeypatch):
        monkeypatch.setattr(environment, "NEWEST", sys.version_info[:2])
        monkeypatch.setattr(environment, "_for_everybody", lambda program: program == "/usr/bin/true")
        monkeypatch.setattr(environment.shutil, "which", lambda name, path="": "/usr/bin/true" if path else None)
        assert environment.choose_python() == "/usr/bin/true"

    def test_a_tested_one_where_the_running_one_is_newer(self, monkeypatch):
        monkeypatch.setattr(environment, "NEWEST", (3, 10))
        found = {"python3.12": "/opt/bin/python3.12"}
        monkeypatch.setattr(environment.shutil, "which", lambda name, path="": found.get(name))
        assert environment.choose_python() == "/opt/bin/python3.12"

    def test_a_newer_one_when_there_is_no_other(self, monkeypatch):
        monkeypatch.setattr(environment, "NEWEST", (3, 10))
        monkeypatch.setattr(environment.shutil, "which", lambda name, path="": None)
        assert os.path.realpath(environment.choose_python()) == os.path.realpath(sys._base_executable)

    @pytest.mark.parametrize(
        ("folder", "program", "expected"), [(0o755, 0o755, True), (0o700, 0o755, False), (0o755, 0o700, False)]
    )
    def test_for_everybody_needs_every_folder_above(self, tmp_path, monkeypatch, folder, program, expected):
        inside = tmp_path / "bin"
        inside.mkdir()
        (inside / "python").write_text("")
        real = os.stat
        modes = {str(inside): folder, str(inside / "python"): program}

        class Seen:
            def __init__(self, path):
                self.st_mode = modes.get(str(path), 0o755)

        monkeypatch.setattr(environment.os, "stat", Seen)
        found = environment._for_everybody(str(inside / "python"))
        monkeypatch.setattr(environment.os, "stat", real)
        assert found is expected


class TestOwner:
    def test_an_ordinary_user_has_nothing_to_hand_over(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert environment.owner(str(tmp_path)) is None

    def test_under_sudo_its_caller(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_UID", "65534")
        uid, _gid = environment.owner(str(tmp_path))
        assert uid == 65534

    def test_root_by_itself(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_UID", "0")
        assert environment.owner(str(tmp_path)) is None

    def test_a_user_that_nobody_knows(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_UID", "4123456789")
        assert environment.owner(str(tmp_path)) is None


class TestTwoAtOnce:
    def test_the_second_waits_for_the_first(self, tmp_path, capsys, monkeypatch):
        real, calls = fcntl.flock, []

        def flock(descriptor, how):
            calls.append(how)
            if how & fcntl.LOCK_NB:
                raise BlockingIOError
            real(descriptor, how)

        monkeypatch.setattr(environment.fcntl, "flock", flock)
        with environment._alone(str(tmp_path)):
            assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
            other = subprocess.run(["flock", "--nonblock", str(tmp_path), "true"], check=False)
            assert other.returncode == 1
        assert "waiting for another --setup" in capsys.readouterr().err
        assert subprocess.run(["flock", "--nonblock", str(tmp_path), "true"], check=False).returncode == 0

    def test_what_the_first_made_is_not_made_again(self, tmp_path, monkeypatch):
        faults = iter(["not there yet", ""])
        monkeypatch.setattr(stamp, "fault", lambda here: next(faults))
        assert environment.make_venv(str(tmp_path)) == ""
        assert list(tmp_path.iterdir()) == []


class TestRemove:
    def test_a_link_goes_and_what_it_leads_to_stays(self, tmp_path):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "file").write_text("")
        (tmp_path / ".venv").symlink_to(precious)
        assert environment._remove(str(tmp_path / ".venv")) == ""
        assert not (tmp_path / ".venv").is_symlink()
        assert (precious / "file").exists()

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / ".venv").write_text("")
        assert environment._remove(str(tmp_path / ".venv")) == ""
        assert not (tmp_path / ".venv").exists()

    def test_a_folder_with_all_below(self, tmp_path):
        (tmp_path / ".venv" / "lib").mkdir(parents=True)
        (tmp_path / ".venv" / "lib" / "away").symlink_to(tmp_path)
        assert environment._remove(str(tmp_path / ".venv")) == ""
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.lab
    def test_a_folder_that_something_is_mounted_on_is_emptied(self, tmp_path):
        """As in the virtual machine, where .venv is a folder of another disk."""
        (tmp_path / ".venv").mkdir()
        script = (
            "import sys; from hoplab.setup import environment as e; import os; folder = sys.argv[1];"
            " open(f'{folder}/file', 'w').close(); os.mkdir(f'{folder}/bin');"
            " print(repr(e._remove(folder)), os.listdir(folder))"
        )
        mounted = 'mount -t tmpfs tmpfs "$1" && exec "$2" -c "$3" "$1"'
        own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"]
        command = [*own, str(tmp_path / ".venv"), sys.executable, script]
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.stdout == "'' []\n", done.stderr


class TestFolderOfSomebodyElse:
    def test_it_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert "not yours to write" in environment.make_venv(str(tmp_path))


class TestStamp:
    @pytest.fixture
    def here(self, tmp_path):
        for name in stamp.REQUIREMENTS:
            (tmp_path / name).write_text(f"# {name}\n")
        binaries = tmp_path / ".venv" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "python").symlink_to(sys.executable)
        Path(stamp.path(str(tmp_path))).write_text(stamp.expected(str(tmp_path)))
        return tmp_path

    def test_a_good_one(self, here):
        assert stamp.fault(str(here)) == ""

    def test_the_system_changed_its_python(self, here):
        """An upgrade of the distribution: the link stays, and leads to another version."""
        link = here / ".venv" / "bin" / "python"
        link.unlink()
        link.symlink_to("/bin/true")
        assert "another Python" in stamp.fault(str(here))
        assert not stamp.only_outdated(str(here))

    def test_its_python_is_gone(self, here):
        link = here / ".venv" / "bin" / "python"
        link.unlink()
        link.symlink_to("/nowhere/python")
        assert os.path.realpath(sys.executable) in stamp.fault(str(here))
        assert not stamp.only_outdated(str(here))

    def test_new_requirements(self, here):
        (here / "requirements-dev.txt").write_text("# more\n")
        assert "older than the requirements" in stamp.fault(str(here))
        assert stamp.only_outdated(str(here))
