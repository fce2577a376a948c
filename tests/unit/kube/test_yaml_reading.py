"""YAML as kubectl reads it: what plain words mean, where each field stands, what aliases and merges give."""

from __future__ import annotations

from typing import Any

import pytest

from hoplab.kube.problems import ManifestError
from hoplab.kube.yaml_reader import read_yaml
from hoplab.kube.yaml_scalars import plain

MEANINGS: dict[str, Any] = {
    "80": 80,
    "-1": -1,
    "+5": 5,
    "1_000": 1000,
    "010": 8,
    "0o17": 15,
    "0x1F": 31,
    "0b11": 3,
    "1.12": 1.12,
    "1e3": 1000.0,
    ".5": 0.5,
    "09": 9.0,
    "yes": True,
    "Off": False,
    "y": True,
    "N": False,
    "~": None,
    "": None,
    "Null": None,
    # Text, although some YAML readers see a number in base 60, a date or a version:
    "12:30": "12:30",
    "190:20:30": "190:20:30",
    "2017-10-01": "2017-10-01",
    "1.12.0": "1.12.0",
    "10.0.0.1": "10.0.0.1",
    "yES": "yES",
    "1.7.3-alpha": "1.7.3-alpha",
    "-": "-",
    "0x": "0x",
    "nullable": "nullable",
}


@pytest.mark.parametrize("word", MEANINGS)
def test_what_a_plain_word_means(word: str) -> None:
    value = plain(word)
    assert value == MEANINGS[word]
    assert type(value) is type(MEANINGS[word])


@pytest.mark.parametrize("word", [".inf", "-.Inf", ".NaN", "9" * 500])
def test_what_json_cannot_carry_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="number"):
        plain(word)


def data(text: str) -> Any:
    (document,) = read_yaml(text, "f.yaml")
    return document.data


def test_quotes_and_tags_decide() -> None:
    assert data("[80, '80', \"yes\", !!str 80, ! yes, !!int '80', !!float 80]") == [
        *(80, "80", "yes", "80", "yes", 80, 80.0),
    ]
    assert data("!!set {a: }") == {"a": None}
    assert data("a: |\n  1\n  2\n") == {"a": "1\n2\n"}


@pytest.mark.parametrize("text", ["!!int abc", "!!bool 1", "!!binary YWJj", "!custom a"])
def test_tags_that_do_not_fit(text: str) -> None:
    with pytest.raises(ManifestError, match=r"f\.yaml:1: "):
        data(text)


def test_the_line_of_each_field_is_that_of_its_key() -> None:
    text = "# comment\na:\n  - b: 1\n\n    c:\n      d: >\n        folded\n        text\n---\ne: {f: [1,\n  2]}\n"
    first, second = read_yaml(text, "f.yaml")
    assert (first.line, second.line) == (2, 10)
    assert first.lines == {
        (): 2,
        ("a",): 2,
        ("a", 0): 3,
        ("a", 0, "b"): 3,
        ("a", 0, "c"): 5,
        ("a", 0, "c", "d"): 6,
    }
    assert second.lines[("e", "f", 1)] == 11
    assert second.line_of(("e", "f", 7, "x")) == 10


def test_aliases_and_merges() -> None:
    text = "base: &b {x: 1, y: {z: 2}}\nsame: *b\nmore:\n  <<: *b\n  x: 3\nboth: {<<: [{x: 5}, *b]}\n"
    (document,) = read_yaml(text, "f.yaml")
    assert document.data == {
        "base": {"x": 1, "y": {"z": 2}},
        "same": {"x": 1, "y": {"z": 2}},
        "more": {"x": 3, "y": {"z": 2}},
        "both": {"x": 5, "y": {"z": 2}},
    }
    assert document.lines["same", "y", "z"] == 2


def test_keys_are_text_whatever_they_look_like() -> None:
    assert data("{80: a, 1.5: b, null: c}") == {"80": "a", "1.5": "b", "null": "c"}
