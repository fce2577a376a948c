"""A real browser, pages of real runs, and eyes for whatever the browser complains of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hoplab.setup.browser import program

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
WIDE, PHONE = {"width": 1280, "height": 720}, {"width": 390, "height": 844}

BROKEN = '''"""A packet to a Service whose node has lost the rule that keeps the answer on its way."""
TOPOLOGY = "cloud"
MANIFESTS = ["{manifest}"]

def run(lab):
    lab.node("node1").namespace.run(["iptables", "-t", "nat", "-F", "KUBE-POSTROUTING"])
    sent = lab.host("client").send_tcp(lab.service("service-b"), balancer_picks="node1", name="service-b through node1")
    sent.expect_outcome("accepted", name="the client gets its answer")
'''


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser of the system, driven by playwright; a user-data folder of its own, empty."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        yield started
        started.close()


class Seen:
    """What a tab asked for and complained of."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []


@pytest.fixture
def visit(chromium: Any) -> Any:
    """Opens a page from its file, in a fresh tab; the tab must end without a complaint or a request elsewhere."""

    @contextmanager
    def visiting(path: Path, *, at: str = "", theme: str = "light", size: Any = WIDE, **options: Any) -> Iterator[Any]:
        context = chromium.new_context(viewport=size, color_scheme=theme, **options)
        tab, seen = context.new_page(), Seen()
        tab.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: seen.asked.append(request.url))
        tab.goto(f"{path.resolve().as_uri()}{f'#{at}' if at else ''}")
        try:
            yield tab
            assert seen.complaints == []
            assert {url.partition("#")[0] for url in seen.asked} == {path.resolve().as_uri()}
        finally:
            context.close()

    return visiting


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hoplab.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two real runs left: one that passed, and one that was sabotaged."""
    folder = tmp_path_factory.mktemp("captures")
    done = lab("scenario", "external-lb", "-q", "--captures", folder)
    assert done.returncode == 0, done.stderr
    script = tmp_path_factory.mktemp("scripts") / "broken.py"
    script.write_text(BROKEN.format(manifest=ROOT / "scenarios" / "manifests" / "services-a-b.yaml"))
    done = lab("scenario", script, "-q", "--captures", folder)
    assert done.returncode == 1, done.stderr
    return folder


@pytest.fixture(scope="session")
def good(captures: Path) -> Path:
    return captures / "external-lb" / "run.html"


@pytest.fixture(scope="session")
def broken(captures: Path) -> Path:
    return captures / "broken" / "run.html"


@pytest.fixture(scope="session")
def beside(captures: Path) -> Path:
    """The page of both runs beside each other."""
    path = captures / "diff.html"
    assert lab("diff", captures / "external-lb", captures / "broken", "--page", path).returncode == 1
    return path
