"""The browser for the tests of pages: brought by `--setup test`, asked for by nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab.setup import browser, door, environment, packages, stamp
from tests.unit.door.clones import clone, furnish, program

PIP = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/called"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an environment whose Python notes what it was called with, on a machine without any browser."""
    made = clone(tmp_path / "clone")
    (made / browser.REQUIREMENTS).write_text("playwright==1\n")
    furnish(made, PIP)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(browser.packages, "install", lambda *_: pytest.fail("apt-get was called"))
    return made


def with_browser(here: Path, name: str = "chromium") -> None:
    program(here.parent / "bin" / name, "#!/bin/sh\n")
    # The clone's Python is a shell script that needs these.
    for each in ("dirname", "sh"):
        (here.parent / "bin" / each).symlink_to(f"/usr/bin/{each}")


def called(here: Path) -> list[str]:
    path = here / ".venv" / "bin" / "called"
    return path.read_text().splitlines() if path.exists() else []


def test_what_is_missing_is_named(here: Path) -> None:
    assert browser.lacking(str(here)) == "no browser is installed (chromium, google-chrome, chromium-browser)"
    with_browser(here)
    assert browser.lacking(str(here)) == "the packages of requirements-browser.txt are not installed"
    assert browser.make(str(here), print) == ""
    assert browser.lacking(str(here)) == ""


def test_packages_are_installed_once_and_again_when_the_requirements_change(here: Path) -> None:
    with_browser(here, "google-chrome")
    assert browser.make(str(here), print) == browser.make(str(here), print) == ""
    assert len(called(here)) == 1
    assert called(here)[0].endswith(f"-r {here}/requirements-browser.txt")
    (here / browser.REQUIREMENTS).write_text("playwright==2\n")
    assert browser.make(str(here), print) == ""
    assert len(called(here)) == 2


def test_chromium_is_installed_where_there_is_no_browser(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def install(names: list[str], purposes: dict[str, str], _say: packages.Say) -> str:
        asked.append(names)
        with_browser(here)
        return ""

    monkeypatch.setattr(browser.packages, "install", install)
    assert browser.make(str(here), print) == ""
    assert asked == [["chromium"]]


def test_a_machine_that_can_have_none_is_told_and_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser.packages, "install", lambda *_: "no network")
    environment.make_for_tests(str(here))
    assert "going on without a browser for the tests of pages: no network" in capsys.readouterr().err
    assert not (here / ".venv" / browser.STAMP).exists()


@pytest.mark.parametrize(
    ("command", "asked"), [(["test"], 1), (["test", "-k", "x"], 1), (["scenario", "x"], 0), ([], 0)]
)
def test_only_the_test_command_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], asked: int
) -> None:
    times: list[str] = []
    monkeypatch.setattr(environment, "make", lambda _here: "")
    monkeypatch.setattr(environment, "make_for_tests", times.append)
    monkeypatch.setattr(door, "become", lambda _here, _command: None)
    assert door.main(str(tmp_path), ["--setup", *command]) == 0
    assert len(times) == asked


def test_the_first_command_needs_none_of_it(here: Path) -> None:
    assert stamp.fault(str(here)) == ""
    assert browser.lacking(str(here))
