"""docs/chapter.md names commands and checks that there are."""

from __future__ import annotations

import re
from pathlib import Path

from hoplab.scenario import scripts

ROOT = Path(__file__).resolve().parents[3]
CHAPTER = (ROOT / "docs" / "chapter.md").read_text(encoding="utf-8")


def test_every_scenario_has_its_place_and_every_one_named_is_there() -> None:
    named = set(re.findall(r"lab\.py scenario ([a-z][a-z-]+)", CHAPTER)) - {"all"}
    assert named == set(scripts.names())


def test_every_check_that_a_reader_shall_look_for_is_in_a_script() -> None:
    """Names that a script puts together (`{name}: ...`) are looked for without their beginning."""
    sources = " ".join(scripts.find(name).read_text(encoding="utf-8") for name in scripts.names())
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    missing = []
    for quoted in re.findall(r'"([^"]+)"', CHAPTER):
        words = re.sub(r"^first: ", "", quoted).partition(" CNI-")[0].removesuffix(" ...").removesuffix(",")
        if words not in sources:
            missing.append(quoted)
    assert not missing
