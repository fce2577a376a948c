"""Takes the pictures of the page for the documents, from a real run, in a real browser.

    python3 lab.py --setup test --version               # once: brings the browser and its driver
    python3 lab.py scenario external-lb
    .venv/bin/python tools/take_screenshots.py captures/external-lb/run.html docs

Playwright drives the Chromium of the system; nothing is loaded from the network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from hoplab.setup import browser

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]


def take(page: Path, to: Path, width: int, height: int, theme: str, step: str, *, whole: bool = False) -> None:
    """One picture of a page at a step (`flow=1&step=3`), in one theme."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.program(), args=ARGUMENTS)
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        tab = context.new_page()
        tab.goto(f"{page.resolve().as_uri()}#{step}")
        tab.wait_for_selector("html[data-ready]" if page.name != "index.html" else "main")
        tab.screenshot(path=to, full_page=whole)
        chromium.close()


def main() -> None:
    """The pictures of docs/, or one with settings of one's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="run.html of a run")
    parser.add_argument("to", type=Path, help="a folder for both themes, or a PNG file")
    parser.add_argument("--name", default="page", help="the pictures' name in that folder [%(default)s]")
    parser.add_argument("--size", default="1280x800", help="width x height [%(default)s]")
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("--at", default="flow=1&step=3", help="where in the walk [%(default)s]")
    parser.add_argument("--whole", action="store_true", help="the whole page, not what fits")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    if given.to.suffix == ".png":
        take(given.page, given.to, width, height, given.theme, given.at, whole=given.whole)
        return
    for theme in ("light", "dark"):
        take(given.page, given.to / f"{given.name}-{theme}.png", width, height, theme, given.at, whole=given.whole)


if __name__ == "__main__":
    main()
