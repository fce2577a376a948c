"""YAML to plain data with the line of every field, from the parser's events.

Events, because they can be counted and bounded while they come: an alias that would
expand to millions of nodes, ten thousand nested lists and duplicate keys are refused
before anything is built from them.  What a scalar means is in hoplab.kube.yaml_scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from hoplab.kube.problems import ManifestError, Path, Problem, field_name
from hoplab.kube.yaml_scalars import Scalar, plain, tagged

MOST_NODES = 200_000
"""Scalars, lists and maps in one file, aliases expanded: 5,000 Services have fewer."""
DEEPEST = 100
"""Nesting: the API server's own decoders stop at 10,000, no object of its API comes near a hundred."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, the line where it begins, and the line of each path in it."""

    data: Any
    line: int
    lines: dict[Path, int] = field(repr=False)

    def line_of(self, path: Path) -> int:
        """The line of a field, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return self.line

    def part(self, path: Path) -> Document:
        """What is below a path, as a document of its own.  Raises KeyError or IndexError when nothing is there."""
        data = self.data
        for key in path:
            data = data[key]
        inside = {place[len(path) :]: line for place, line in self.lines.items() if place[: len(path)] == path}
        return Document(data, self.line_of(path), inside)

    def items(self) -> list[Document]:
        """The items of a document that is a list, each as a document of its own."""
        inside: dict[Any, dict[Path, int]] = {}
        for place, line in self.lines.items():
            if place:
                inside.setdefault(place[0], {})[place[1:]] = line
        found = []
        for number, item in enumerate(self.data):
            lines = inside.get(number, {})
            found.append(Document(item, lines.get((), self.line), lines))
        return found


class _Reader:
    """Builds documents from events; `self.count` bounds the whole file."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._next: Callable[[], Any] = _LOADER(text).get_event
        self._count = 0
        self._anchors: dict[str, tuple[Any, tuple[Path, ...], int]] = {}

    def refuse(self, line: int, message: str, path: Path = ()) -> ManifestError:
        return ManifestError([Problem(self._file, line, field_name(path), message)])

    def documents(self) -> Iterator[Document]:
        while not isinstance(event := self._next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                lines: dict[Path, int] = {}
                data = self._node(self._next(), (), lines)
                if data is not None:
                    yield Document(data, lines[()], lines)

    def _node(self, event: Any, path: Path, lines: dict[Path, int]) -> Any:
        line = _line(event)
        lines.setdefault(path, line)
        self._tick(line, 1)
        if len(path) > DEEPEST:
            raise self.refuse(line, f"nested deeper than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, lines, line)
        before = self._count
        mine: dict[Path, int] = {} if event.anchor else lines
        data: Any
        if isinstance(event, yaml.ScalarEvent):
            data = self._scalar(event, path, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = self._sequence(path, mine)
        else:
            data = self._mapping(path, mine)
        if event.anchor:
            inside = tuple(place[len(path) :] for place in mine)
            self._anchors[event.anchor] = (data, inside, self._count - before + 1)
            self._tick(line, len(mine))
            lines.update(mine)
        return data

    def _tick(self, line: int, nodes: int) -> None:
        self._count += nodes
        if self._count > MOST_NODES:
            raise self.refuse(
                line, f"more than {MOST_NODES:,} values, aliases expanded: no manifest of this lab has so many"
            )

    def _alias(self, event: Any, path: Path, lines: dict[Path, int], line: int) -> Any:
        if event.anchor not in self._anchors:
            raise self.refuse(line, f"alias *{event.anchor} before its anchor (or inside itself)", path)
        data, inside, size = self._anchors[event.anchor]
        self._tick(line, size)
        for place in inside:
            lines[path + place] = line
        return data

    def _scalar(self, event: Any, path: Path, line: int) -> Scalar:
        try:
            if event.tag is not None:
                return tagged(event.tag, event.value)
            return plain(event.value) if event.implicit[0] else str(event.value)
        except ValueError as error:
            raise self.refuse(line, str(error), path) from error

    def _sequence(self, path: Path, lines: dict[Path, int]) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            data.append(self._node(event, (*path, len(data)), lines))
        return data

    def _mapping(self, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self.refuse(line, "expected a plain word as key", path)
            self._tick(line, 1)
            key = event.value
            value = self._next()
            if key == "<<" and event.implicit[0]:
                data = {**self._merged(self._node(value, (*path, key), {}), line, path), **data}
                continue
            if (*path, key) in lines:
                raise self.refuse(line, f"key {key!r} stands twice", (*path, key))
            lines[(*path, key)] = line
            data[key] = self._node(value, (*path, key), lines)
        return data

    def _merged(self, given: Any, line: int, path: Path) -> dict[str, Any]:
        """The map of a `<<` key: one map, or several of which the earlier wins."""
        maps = given if isinstance(given, list) else [given]
        if not all(isinstance(each, dict) for each in maps):
            raise self.refuse(line, "expected a map to merge (<<)", path)
        return {key: value for each in reversed(maps) for key, value in each.items()}


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def read_yaml(text: str, file: str) -> list[Document]:
    """All documents of a text that are not empty.  Raises ManifestError for anything that is no usable YAML."""

    def refuse(line: int, what: str) -> ManifestError:
        return ManifestError([Problem(file, line, "", what)])

    try:
        return list(_Reader(text, file).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        raise refuse(mark.line + 1 if mark else 0, f"no valid YAML: {what}{_tab_hint(text, mark)}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise refuse(0, f"no valid YAML: {' '.join(str(error).split())}") from error


def _tab_hint(text: str, mark: Any) -> str:
    """What the parser's words hide: it stopped at a line that a tab indents."""
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        return ""
    line = lines[mark.line]
    indent = line[: len(line) - len(line.lstrip())]
    return "; the line is indented with a tab, YAML takes only spaces" if "\t" in indent else ""
