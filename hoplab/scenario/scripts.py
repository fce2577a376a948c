"""Scenario scripts as files: finds them by name, reads their purpose, loads them with errors a writer understands.

A script is a Python file with a docstring (its first sentence is its purpose), a
TOPOLOGY, a list of MANIFESTS and a function `run(lab)`.  Listing them only parses;
nothing of a script runs before it was asked for.
"""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from hoplab.errors import InputError, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"
MANIFESTS = FOLDER / "manifests"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a scenario can be played with: a script's own words about the options of a run."""

    name: str
    topology: str = "cloud"
    nodes: int = 2
    least_nodes: int = 1
    without: Mapping[str, str] = field(default_factory=dict)
    """Option and value ('--balancer-mode proxy') -> why there would be nothing to see with it."""


@dataclass(frozen=True, slots=True)
class Script:
    """A loaded scenario."""

    name: str
    path: Path
    help: str
    topology: str
    manifests: tuple[Path, ...]
    run: Callable[[Any], object]
    nodes: int = 2
    addons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Programs that not every machine has, and without which it can't be played."""
    terms: Terms = Terms("")


def names(folder: Path = FOLDER) -> list[str]:
    """Scenarios there are."""
    return sorted(path.stem.replace("_", "-") for path in folder.glob("*.py") if not path.stem.startswith("_"))


def find(name: str, folder: Path = FOLDER) -> Path:
    """The file of a scenario: by its name, or a path ending in .py.  Raises InputError with the nearest name."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such scenario script")
        if not path.stem.strip("."):
            raise InputError(f"{name}: a run's files go to a folder named after its script: give it a name before .py")
        return path
    for stem in (name, name.replace("-", "_")):
        path = folder / f"{stem}.py"
        if path.is_file():
            return path
    known = names(folder)
    raise InputError(f"no scenario is called {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}")


def purpose(path: Path) -> str:
    """The first paragraph of a script's docstring, on one line.  Raises InputError for a syntax error."""
    document = ast.get_docstring(_parse(path)) or "(no docstring)"
    return " ".join(document.split("\n\n")[0].split())


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: can't be read as Python: {error or type(error).__name__}") from error


def terms(name: str, folder: Path = FOLDER) -> Terms:
    """A scenario's terms, read without running any of it.  Raises InputError for a name or a file that can't be."""
    path = find(name, folder)
    found: dict[str, Any] = {}
    for statement in _parse(path).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                # No literal (ast.literal_eval): what it comes to is known when the script runs.
                continue
    return _terms(found, path)


def _terms(found: Mapping[str, Any], path: Path) -> Terms:
    without = found.get("WITHOUT", {})
    if not isinstance(without, dict) or not all(isinstance(word, str) for pair in without.items() for word in pair):
        raise InputError(f"{path}: WITHOUT: expected a table of options and reasons, found {without!r}")
    numbers = {"NODES": 2, "LEAST_NODES": 1} | {key: found[key] for key in ("NODES", "LEAST_NODES") if key in found}
    for key, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise InputError(f"{path}: {key}: expected a number of nodes, found {number!r}")
    topology = found.get("TOPOLOGY", "cloud")
    if not isinstance(topology, str):
        raise InputError(f"{path}: TOPOLOGY: expected a name, found {topology!r}")
    return Terms(path.stem.replace("_", "-"), topology, numbers["NODES"], numbers["LEAST_NODES"], without)


def by_signal(error: BaseException) -> bool:
    """Whether an exception is the sandbox' word for a signal that ends the run, and not a script's own sys.exit()."""
    return isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128


def load(name: str, folder: Path = FOLDER) -> Script:
    """Run a script's top level and take what it defines.  Raises InputError naming file and line."""
    path = find(name, folder)
    tree = _parse(path)
    module = ModuleType(f"scenarios.{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        if by_signal(error):
            raise
        # A script's top level may fail in any way; the writer needs the line, not our own frames.
        raise InputError(f"{where(error, path)}: {type(error).__name__}: {error}") from error
    run = getattr(module, "run", None)
    if not callable(run):
        raise InputError(f"{path}: expected a function run(lab), found {'none' if run is None else repr(run)}")
    _hold(run, path)
    own = _terms(module.__dict__, path)
    given = getattr(module, "MANIFESTS", [])
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise InputError(f"{path}: MANIFESTS: expected a list of file names, found {given!r}")
    return Script(
        path.stem.replace("_", "-"),
        path,
        ast.get_docstring(tree) or "",
        own.topology,
        tuple(_manifest(each, path) for each in given),
        run,
        own.nodes,
        _names(module, "ADDONS", path),
        _names(module, "NEEDS", path),
        own,
    )


def _hold(run: Callable[..., object], path: Path) -> None:
    """Raises InputError for a `run` that could not be called with a lab, or would only make a coroutine of it."""
    code = getattr(run, "__code__", None)
    place = f"{path}:{code.co_firstlineno}" if code is not None and code.co_filename == str(path) else str(path)
    if inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(run):
        raise InputError(
            f"{place}: run: expected a plain function, found one with async or yield, whose body never runs"
        )
    try:
        inspect.signature(run).bind(None)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: run: it is called with the lab alone, as run(lab): {error}") from error


def _names(module: ModuleType, what: str, path: Path) -> tuple[str, ...]:
    given = getattr(module, what, [])
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise InputError(f"{path}: {what}: expected a list of names, found {given!r}")
    return tuple(given)


def _manifest(name: str, script: Path) -> Path:
    """A manifest beside the script, in its manifests folder, or in the project's."""
    places = [script.parent / name, script.parent / "manifests" / name, MANIFESTS / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = ", ".join(str(place) for place in dict.fromkeys(places))
        raise InputError(f"{script}: MANIFESTS: no file {name!r}; looked for {looked}")
    return found


def raised_by(error: BaseException, path: Path) -> bool:
    """Whether the script itself raised it, and not something that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == str(path)


def where(error: BaseException, path: Path) -> str:
    """file:line of the script's own innermost frame in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)
