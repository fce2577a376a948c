"""The Wireshark profile, and how its files get into somebody's folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from hoplab.cli.wireshark_files import install, install_program
from hoplab.report import wireshark
from hoplab.report.annotate import frame_comments
from hoplab.report.pcapng import write_pcapng
from tests.unit.report.runs import EXPLAIN, evidence, failed_run, good_run

RULE = re.compile(r"@([^@]+)@([^@]+)@\[(\d+),(\d+),(\d+)\]\[(\d+),(\d+),(\d+)\]")


def rules(places: list[str]) -> list[re.Match[str]]:
    lines = wireshark.colour_rules(places).splitlines()
    found = [RULE.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found)
    return [one for one in found if one]


def test_every_place_has_a_colour_of_its_own_and_red_is_for_failures() -> None:
    places = [*wireshark.PLACES, *(f"pod/web-{number}" for number in range(52))]
    told = {one[1]: tuple(map(int, one.groups()[2:5])) for one in rules(places)}
    own = [told[f"{place}, rewritten"] for place in places]
    assert len(set(own)) == len(places) == wireshark.MOST_PLACES
    for red, green, blue in own:
        assert red < 1.9 * max(green, blue)
    red, green, blue = told["why a flow failed"]
    assert red > 3 * max(green, blue)
    assert next(iter(told)) == "why a flow failed"


def test_more_places_than_colours_and_odd_names_leave_a_profile_that_wireshark_reads() -> None:
    places = ["node1", "a@b", 'x" || tcp', "line\nbreak", "", *(f"pod/p{n}.x" for n in range(500))]
    found = rules(places)
    assert found[2][2].startswith('frame.interface_name matches "^node1:"')
    assert found[6][2].startswith('frame.interface_name matches "^pod/p0[.]x:"')
    assert len(found) == 2 + 4 * (wireshark.MOST_PLACES + 1)


def test_text_on_every_colour_can_be_read() -> None:
    """Contrast of 4.5 to 1 at least (WCAG 2.1, 1.4.3)."""

    def light(parts: tuple[str, ...]) -> float:
        linear = [((n + 0.055) / 1.055) ** 2.4 if n > 0.03928 else n / 12.92 for n in (int(p) / 65535 for p in parts)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for one in rules([f"node{number}" for number in range(60)]):
        back, text = sorted((light(one.groups()[2:5]), light(one.groups()[5:8])), reverse=True)
        assert (back + 0.05) / (text + 0.05) > 4.5, one[1]


def test_a_button_for_each_of_the_first_flows() -> None:
    text = wireshark.buttons(20)
    assert [f"Flow {n}" in text for n in (1, wireshark.MOST_FLOWS, wireshark.MOST_FLOWS + 1)] == [True, True, False]
    assert r'"TRUE","Flow 2","frame.comment contains \x22flow 2:\x22","every frame of flow 2"' in text.splitlines()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A capture, and the environment of somebody who has the profile."""
    home = tmp_path_factory.mktemp("home")
    path, run, bad, seen = home / "run.pcapng", good_run(), failed_run(), evidence()
    comments = frame_comments([*run.flows, *bad.flows], seen.frames, EXPLAIN)
    write_pcapng(path, seen.frames, seen.interfaces, comments, {"203.0.113.10": ["client"]})
    places = ["client", "lb", "node1", "node2", "pod/d"]
    install(home / ".config" / "wireshark" / "profiles" / wireshark.PROFILE, wireshark.profile(places, 3))
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CONFIG_HOME"}
    return path, {**environment, "HOME": str(home)}


def tshark(read: tuple[Path, dict[str, str]], *arguments: str) -> list[str]:
    path, environment = read
    command = ["tshark", "-C", wireshark.PROFILE, "-r", str(path), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    # What it does not understand in a profile it tells and goes on.
    assert not [line for line in done.stderr.splitlines() if line and not line.startswith("Running as user")]
    return done.stdout.splitlines()


@pytest.mark.lab
def test_tshark_takes_the_profile_and_shows_its_columns(read: tuple[Path, dict[str, str]]) -> None:
    first = tshark(read, "-c", "1")[0]
    assert "client:eth0" in first
    assert "flow 1: SYN, hop 1 of 5: client" in first
    assert "client" in first.split("client:eth0")[1]


@pytest.mark.lab
def test_tshark_colours_by_place_and_by_what_was_done(read: tuple[Path, dict[str, str]]) -> None:
    fields = ("-e", "frame.interface_name", "-e", "frame.coloring_rule.name", "-e", "frame.comment")
    rows = [line.split("\t") for line in tshark(read, "--color", "-T", "fields", *fields)]
    assert {(row[0], row[1]) for row in rows} >= {
        ("client:eth0", "client, there"),
        ("client:eth0", "client, back"),
        ("node1:eth0", "node1, rewritten"),
        ("pod/d:eth0", "pod/d, back"),
    }
    assert {row[1] for row in rows if "drop by FORWARD" in row[2]} == {"dropped or rejected by a rule"}


@pytest.mark.lab
def test_every_button_is_a_filter_that_finds_something(read: tuple[Path, dict[str, str]]) -> None:
    found = {}
    for line in wireshark.buttons(3).splitlines()[1:]:
        _shown, name, where, _about = re.findall(r'"([^"]*)"', line)
        found[name] = where.replace("\\x22", '"')
    assert list(found) == ["Story", "Flow 1", "Flow 2", "Flow 3", "There", "Back", "Rewritten", "Why"]
    sizes = {name: len(tshark(read, "-Y", where)) for name, where in found.items()}
    assert sizes["Story"] == sizes["There"] + sizes["Back"] == sum(sizes[f"Flow {number}"] for number in (1, 2, 3))
    assert all(sizes.values())


def test_what_the_user_changed_stays_until_he_wants_ours(tmp_path: Path) -> None:
    folder = tmp_path / "profiles" / "hoplab"
    files = {"preferences": "ours\n", "colorfilters": "red\n", "recent": "wide\n"}
    assert install(folder, files).written == ("preferences", "colorfilters", "recent")
    assert install(folder, files).written == ()
    (folder / "preferences").write_text("mine\n")
    (folder / "recent").write_text("Wireshark's own\n")
    done = install(folder, {**files, "colorfilters": "blue\n", "preferences": "newer\n"})
    assert (done.written, done.kept) == (("colorfilters",), ("preferences",))
    assert (folder / "preferences").read_text() == "mine\n"
    assert (folder / "recent").read_text() == "Wireshark's own\n"
    done = install(folder, files, reset=True)
    assert done.moved == ("preferences",)
    assert (folder / "preferences.yours").read_text() == "mine\n"
    assert {name: (folder / name).read_text() for name in files} == files
    assert sorted(json.loads((folder / ".hoplab.json").read_text())) == sorted(files)


def test_a_profile_that_was_there_before_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "preferences").write_text("mine\n")
    assert install(tmp_path, {"preferences": "ours\n"}).kept == ("preferences",)
    assert (tmp_path / "preferences").read_text() == "mine\n"


def test_a_program_is_installed_executable_and_renewed(tmp_path: Path) -> None:
    path = tmp_path / "extcap" / "hoplab"
    for text in ("#!/bin/sh\nexit 3\n", "#!/bin/sh\nexit 4\n"):
        install_program(path, text)
        assert subprocess.run([path], check=False).returncode == int(text.split()[-1])
