"""Finding the command: names, options, help, and what is imported for it."""

import json
import os
import re
import subprocess
import sys

import pytest

from hoplab.cli.main import COMMANDS, run, take_debug
from tests.unit.cli.calls import ROOT, lab

HEAVY = ("rich", "scapy", "mininet", "pyroute2", "yaml", "pytest", "hoplab.net", "hoplab.cluster", "hoplab.scenario")


def test_help_lists_every_command_with_its_purpose(capsys):
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in COMMANDS)
    assert "Exit codes: 0 all verified" in told


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "test"])
def test_each_command_has_help_of_its_own(name, capsys):
    assert run([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"Usage: lab.py {name}" in told
    assert max(map(len, told.splitlines())) <= 80


def test_without_a_command_help_is_shown_and_the_call_is_wrong(capsys):
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_the_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "hoplab 0.1.0\n"


@pytest.mark.parametrize(("typed", "meant"), [("scenari", "scenario"), ("rule", "rules"), ("docter", "doctor")])
def test_a_misspelt_command_names_the_nearest(typed, meant, capsys):
    assert run([typed]) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_a_word_that_is_like_no_command(capsys):
    assert run(["xyzzy"]) == 2
    told = capsys.readouterr().err
    assert "no command is called 'xyzzy'" in told
    assert "Did you mean" not in told


def test_an_interrupt_while_the_command_line_itself_is_imported_is_told_as_one(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    call = [sys.executable, "-P", "-m", "hoplab.cli", "ps"]
    path = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(call, env=path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "lab.py: interrupted\n")


def test_setup_behind_the_command_is_told_where_it_belongs(capsys):
    assert run(["scenario", "external-lb", "--setup"]) == 2
    assert "--setup comes first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "own", "debug"),
    [
        (["--debug", "doctor"], ["doctor"], True),
        (["doctor", "--debug"], ["doctor"], True),
        (["doctor"], ["doctor"], False),
        (["scenario", "--", "--debug"], ["scenario", "--", "--debug"], False),
        (["test", "--debug"], ["test", "--debug"], False),
        (["--debug", "test", "-x"], ["test", "-x"], True),
    ],
)
def test_debug_may_stand_anywhere_that_is_ours(arguments, own, debug):
    assert take_debug(arguments) == (own, debug)


def test_nothing_heavy_is_imported_to_find_a_command():
    script = f"import json, sys, hoplab.cli.main; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


class TestScenario:
    """What is refused before anything is built."""

    def test_the_list_has_every_scenario_with_its_purpose(self, capsys):
        assert run(["scenario", "list"]) == 0
        told = capsys.readouterr().out
        assert re.search(r"^external-lb +A packet from outside reaches pod d", told, re.MULTILINE)
        assert max(map(len, told.splitlines())) <= 80

    def test_a_listed_name_tells_its_whole_story(self, capsys):
        assert run(["scenario", "list", "external-lb"]) == 0
        assert "Try next:" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["scenario"], "Missing argument"),
            (["scenario", "externl-lb"], "Did you mean external-lb?"),
            (["scenario", "external-lb", "externl-lb"], "Did you mean external-lb?"),
            (["scenario", "external-lb", "--balancer", "random"], "'random' is not one of 'hash', 'round-robin'"),
            (["scenario", "external-lb", "--nodes", "0"], "0 is not in the range"),
            (["scenario", "external-lb", "--seed", "x"], "'x' is not a valid integer"),
            (["scenario", "external-lb", "--jsn"], "--json"),
            (["scenario", "external-lb", "--json", "--pause"], "--pause is a conversation"),
            (["scenario", "external-lb", "--junit", "/no/such/folder/x.xml"], "no folder /no/such/folder"),
            (["scenario", "external-lb", "--captures", "/run/mine"], "choose another folder"),
            (["scenario", "list", "nothing-like-it"], "no scenario is called"),
        ],
    )
    def test_a_wrong_call_is_exit_2_with_one_message(self, arguments, message, capsys):
        assert run(arguments) == 2
        told = capsys.readouterr()
        assert message in told.err
        assert told.out == ""

    def test_a_missing_program_is_exit_3_with_what_to_type(self, monkeypatch, capsys):
        from hoplab.setup import packages

        monkeypatch.setattr(packages, "missing", lambda: [p for p in packages.PACKAGES if p.name == "nftables"])
        assert run(["scenario", "external-lb"]) == 3
        assert "sudo apt-get install --no-install-recommends nftables" in capsys.readouterr().err


class TestTest:
    def test_arguments_and_verdict_are_pytests(self, tmp_path):
        (tmp_path / "test_mine.py").write_text("def test_it():\n    assert 1 == 2\n")
        done = lab("test", str(tmp_path / "test_mine.py"), "-q", "-p", "no:cacheprovider")
        assert done.returncode == 1
        assert "1 failed" in done.stdout

    def test_no_test_at_all_proves_nothing(self, tmp_path):
        assert lab("test", str(tmp_path), "-q", "-p", "no:cacheprovider").returncode == 2
