"""What the doctor makes of its findings: verdict, exit code, words for people, one document for programs."""

from __future__ import annotations

import json
import os

import click
import pytest
from click.testing import CliRunner

from hoplab.cli import doctor as command_line
from hoplab.doctor import examine, host, topics
from hoplab.doctor.topics import Finding, State, ready, to_document
from hoplab.setup import packages
from hoplab.setup.packages import Package

STATES: tuple[State, ...] = ("ok", "limited", "missing", "untried")
ALL = [value for value in vars(topics).values() if isinstance(value, topics.Topic)]
FINE = [Finding(topic, "ok", "found") for topic in ALL]


def with_state(topic: topics.Topic, state: State) -> list[Finding]:
    return [Finding(each.topic, state if each.topic is topic else "ok", "words") for each in FINE]


def call(monkeypatch: pytest.MonkeyPatch, findings: list[Finding], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(examine, "examine", lambda: findings)
    done = CliRunner().invoke(command_line.command, list(arguments), standalone_mode=False)
    assert done.exception is None
    return done.return_value, done.output


class TestTopics:
    @pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
    def test_every_topic_says_why_how_and_what_works_without(self, topic: topics.Topic):
        assert topic.why
        assert topic.how
        assert topic.without
        assert (topic.without == topics.NOTHING) <= topic.needed, "a lab that needs it is impossible without it"


class TestCommand:
    def test_0_when_all_is_there(self, monkeypatch: pytest.MonkeyPatch):
        code, told = call(monkeypatch, FINE)
        assert (code, told.splitlines()[-1]) == (0, "Labs can run here.")

    def test_0_without_what_only_helps_and_says_what(self, monkeypatch: pytest.MonkeyPatch):
        code, told = call(monkeypatch, with_state(topics.NETEM, "missing"))
        assert (code, told.splitlines()[-1]) == (0, "Without: netem.")
        assert "delay and loss on a link" in told

    def test_3_without_what_is_needed_and_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch):
        code, told = call(monkeypatch, with_state(topics.CNI, "missing"))
        assert (code, told.splitlines()[-1]) == (3, "Missing: CNI plugins.")
        assert "sudo apt-get install containernetworking-plugins" in " ".join(told.split())

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("options", [(), ("--verbose",)])
    def test_no_line_is_longer_than_a_terminal_is_wide(
        self, monkeypatch: pytest.MonkeyPatch, state: State, options: tuple[str, ...]
    ):
        _code, told = call(monkeypatch, [Finding(topic, state, "word " * 60) for topic in ALL], *options)
        assert max(len(click.unstyle(line)) for line in told.splitlines()) <= 80

    def test_json_is_one_document_with_every_field(self, monkeypatch: pytest.MonkeyPatch):
        findings = with_state(topics.NFT, "missing")
        code, told = call(monkeypatch, findings, "--json")
        document = json.loads(told)
        assert code == 3
        assert document == to_document(findings)
        assert (document["version"], document["ready"]) == (1, False)
        for finding in document["findings"]:
            assert set(finding) == {"name", "state", "found", "why", "how", "without", "needed"}


class TestWhatIsMissing:
    def test_an_examination_that_dies_inside_is_no_success(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(examine.sandbox, "run", lambda main: 137)
        findings = examine.in_sandbox()
        assert "ended with 137" in findings[0].found
        assert not ready(findings)

    @pytest.mark.parametrize(("needed", "hinders"), [(True, True), (False, False)])
    def test_a_program_that_is_nowhere(self, monkeypatch: pytest.MonkeyPatch, needed: bool, hinders: bool):
        monkeypatch.setattr(packages, "PACKAGES", (Package("pack", "no-such-program", "to be tried", needed, ()),))
        (finding,) = host.programs()
        assert (finding.state, finding.hinders) == ("missing", hinders)
        assert finding.topic.how == "sudo apt-get install pack"

    def test_plugins_that_are_nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: object):
        monkeypatch.setattr(packages, "CNI_PLACES", (str(tmp_path),))
        assert host.cni_plugins().hinders

    def test_what_a_child_process_is_refused_comes_back_as_its_words(self):
        def refused() -> str:
            raise PermissionError(1, "unshare(0x20000): Operation not permitted")

        assert "Operation not permitted" in host.in_child(refused)
        assert host.in_child(lambda: "") == ""

    def test_roots_user_that_cannot_become_another_one_is_a_finding_too(self, monkeypatch: pytest.MonkeyPatch):
        """Root of a user namespace with one user only: nobody else is there to try."""

        def refuse(*_arguments: object, **_options: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(host.subprocess, "run", refuse)
        found = next(iter(host.namespaces()))
        assert (found.topic, found.state) == (topics.USER, "missing")
        assert "Operation not permitted" in found.found

    def test_a_try_leaves_the_calling_process_as_it_was(self):
        before = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
        list(host.namespaces())
        assert {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")} == before
