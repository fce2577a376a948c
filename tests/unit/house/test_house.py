"""What may import what: the rules that keep decisions pure and the door light, read from the code itself.

Layers are import-linter's business (pyproject.toml, `.venv/bin/lint-imports`); here is
what it can't see: the standard library's calls, and which modules are loaded late.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PURE = ("kube", "dataplane", "control", "dns", "ingress", "hops", "model", "reasons")
EDGES = {
    "asyncio",
    "ctypes",
    "fcntl",
    "multiprocessing",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "time",
}
HEAVY = ("scapy", "mininet", "rich", "pyroute2", "multiprocessing", "asyncio", "http.client", "xml.dom")


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / "hoplab" / package).rglob("*.py"))
    assert found, f"hoplab/{package} has no modules"
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """The absolute names of all imports, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def called_of_os(tree: ast.AST) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_reach_for_no_socket_no_process_and_no_clock(package: str):
    for module in modules(package):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        roots = {name.partition(".")[0] for name in imported(tree)}
        assert not roots & EDGES, f"{module.relative_to(ROOT)} imports {sorted(roots & EDGES)}"
        acting = {
            name for name in called_of_os(tree) if name.startswith(("fork", "exec", "spawn", "system", "popen", "kill"))
        }
        assert not acting, f"{module.relative_to(ROOT)} calls os.{sorted(acting)}"


def test_the_door_needs_nothing_but_the_standard_library():
    for module in (ROOT / "lab.py", ROOT / "hoplab" / "__init__.py", *modules("setup")):
        for name in imported(ast.parse(module.read_text(encoding="utf-8"))):
            root = name.partition(".")[0]
            assert root in sys.stdlib_module_names or name == "hoplab" or name.startswith("hoplab.setup"), (
                f"{module.relative_to(ROOT)} imports {name}"
            )


def test_shells_get_no_strings_and_nobody_sleeps():
    for module in sorted((ROOT / "hoplab").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{module.relative_to(ROOT)}:{node.lineno}"
            assert not any(keyword.arg == "shell" for keyword in node.keywords), f"{where} starts a shell"
            assert ast.unparse(node.func) not in ("time.sleep", "os.system", "os.popen"), f"{where} calls it"


def test_a_command_starts_without_what_it_may_never_need():
    """Start-up of Python is a small part of a run only as long as nothing heavy is imported for it."""
    script = "import sys, hoplab.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & set(HEAVY)
    assert not {name for name in loaded if name.startswith(("hoplab.net", "hoplab.cluster", "hoplab.scenario"))}
