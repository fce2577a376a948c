"""What is said of findings, to people and to programs, and when the main job can run."""

import click
import pytest

from hoplab.cli.doctor import report
from hoplab.doctor import topics
from hoplab.doctor.examine import INSIDE
from hoplab.doctor.topics import Finding, Topic, ready, to_document

NEEDED = Topic("bridges", "the switches of the lab", "sudo modprobe bridge", "nothing")
NICE = Topic("netem", "delay and loss on a link", "another kernel", "everything else", needed=False)
ALL = [topic for topic in vars(topics).values() if isinstance(topic, Topic)]


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([Finding(NEEDED, "ok"), Finding(NICE, "ok")], True),
        ([Finding(NEEDED, "ok"), Finding(NICE, "missing")], True),
        ([Finding(NEEDED, "limited")], True),
        ([Finding(NEEDED, "missing"), Finding(NICE, "ok")], False),
        ([Finding(NEEDED, "untried")], False),
        ([], False),
    ],
)
def test_the_main_job_can_run_when_all_that_it_needs_is_there(findings, expected):
    assert ready(findings) is expected


def test_json_tells_of_each_why_how_and_what_works_without():
    document = to_document([Finding(NEEDED, "missing", "Operation not supported")])
    assert document == {
        "version": 1,
        "ready": False,
        "findings": [
            {
                "name": "bridges",
                "state": "missing",
                "found": "Operation not supported",
                "why": "the switches of the lab",
                "how": "sudo modprobe bridge",
                "without": "nothing",
                "needed": True,
            }
        ],
    }


def told(*findings, verbose=False):
    return [click.unstyle(line) for line in report(findings, verbose)]


def test_what_is_there_takes_one_line():
    assert told(Finding(NEEDED, "ok", "made"))[0] == "ok       bridges: made"


def test_what_is_missing_says_why_how_and_what_still_works():
    lines = "\n".join(told(Finding(NEEDED, "ok"), Finding(NICE, "missing", "unknown qdisc")))
    for words in ("missing  netem: unknown qdisc", "delay and loss", "another kernel", "everything else"):
        assert words in lines
    assert "Labs can run here." in lines
    assert "Without: netem." in lines


def test_what_hinders_is_named_at_the_end():
    lines = told(Finding(NEEDED, "missing"), Finding(NICE, "missing"))
    assert lines[-2:] == ["No lab can run here yet.", "Missing: bridges."]


def test_asked_for_more_it_says_of_everything_why():
    assert any("the switches of the lab" in line for line in told(Finding(NEEDED, "ok"), verbose=True))


def test_80_columns_are_enough_for_every_topic():
    for topic in ALL:
        assert max(map(len, told(Finding(topic, "missing", "word " * 60), verbose=True))) <= 80


def test_every_topic_is_complete_and_named_once():
    assert len({topic.name for topic in ALL}) == len(ALL)
    assert all(topic.why and topic.how and topic.without for topic in ALL)
    assert set(INSIDE) <= set(ALL)
