"""Whose fault it is when a script ends early: its own (exit 2, with its line), or that of the lab (exit 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hoplab.errors import HoplabError, InputError
from hoplab.scenario.acting import act_script
from hoplab.scenario.scripts import load


def acted(text: str, lab: Any, folder: Path) -> HoplabError:
    script = folder / "mine.py"
    script.write_text(f'"""x"""\ndef run(lab):\n    {text}\n')
    with pytest.raises(HoplabError) as caught:
        act_script(load(str(script)), lab)
    return caught.value


def silent_lab() -> None:
    raise TimeoutError("timed out")


def strict_lab(*_values: object) -> None:
    raise TypeError("an int was expected")


def test_what_the_lab_can_not_answer_is_no_fault_of_the_script(tmp_path: Path) -> None:
    error = acted("lab()", silent_lab, tmp_path)
    assert error.exit_code == 1
    assert str(error) == f"{tmp_path}/mine.py:3: TimeoutError: timed out"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("open('/nowhere/at/all')", "FileNotFoundError"),
        ("raise TimeoutError('mine')", "TimeoutError: mine"),
        ("lab('seven')", "TypeError: an int was expected"),
        ("[][1]", "IndexError"),
    ],
)
def test_what_the_script_does_itself_is(text: str, words: str, tmp_path: Path) -> None:
    error = acted(text, strict_lab, tmp_path)
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{tmp_path}/mine.py:3: ")
    assert words in str(error)
