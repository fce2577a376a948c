"""YAML to plain data with the line of every field, from the parser's events.

Events, because they can be counted and bounded while they come: an alias that would
expand to millions of nodes, ten thousand nested lists and duplicate keys are refused
before anything is built from them.  Scalars mean what they mean to Kubernetes (YAML
1.1 as PyYAML has it), except that dates stay text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from hoplab.kube.problems import ManifestError, Path, Problem, field_name

MOST_NODES = 200_000
"""Scalars, lists and maps in one file, aliases expanded: a file of 4 MB has fewer."""
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


class _Reader:
    """Builds documents from events; `self.count` bounds the whole file."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._events = yaml.parse(text, Loader=_LOADER)
        self._resolver: Any = yaml.SafeLoader("")
        self._count = 0
        self._anchors: dict[str, tuple[Any, dict[Path, int], int]] = {}

    def refuse(self, line: int, message: str, path: Path = ()) -> ManifestError:
        return ManifestError([Problem(self._file, line, field_name(path), message)])

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                lines: dict[Path, int] = {}
                first = next(self._events)
                data = self._node(first, (), lines)
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
        mine: dict[Path, int] = {}
        data: Any
        if isinstance(event, yaml.ScalarEvent):
            data = self._scalar(event, path, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = self._sequence(path, mine)
        else:
            data = self._mapping(path, mine)
        lines.update(mine)
        if event.anchor:
            inside = {place[len(path) :]: at for place, at in mine.items()}
            self._anchors[event.anchor] = (data, inside, self._count - before + 1)
        return data

    def _tick(self, line: int, nodes: int) -> None:
        self._count += nodes
        if self._count > MOST_NODES:
            raise self.refuse(line, f"more than {MOST_NODES:,} values, aliases expanded: refused")

    def _alias(self, event: Any, path: Path, lines: dict[Path, int], line: int) -> Any:
        if event.anchor not in self._anchors:
            raise self.refuse(line, f"alias *{event.anchor} before its anchor (or inside itself)", path)
        data, inside, size = self._anchors[event.anchor]
        self._tick(line, size)
        for place in inside:
            lines[path + place] = line
        return data

    def _scalar(self, event: Any, path: Path, line: int) -> Any:
        if event.tag not in (None, "!") and not event.tag.startswith("tag:yaml.org,2002:"):
            raise self.refuse(line, f"tag {event.tag}: manifests have plain values only", path)
        tag = event.tag or self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag == "tag:yaml.org,2002:timestamp":
            return event.value
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return self._resolver.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self.refuse(line, f"can't read {event.value[:60]!r}: {error}", path) from error

    def _sequence(self, path: Path, lines: dict[Path, int]) -> list[Any]:
        data: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            data.append(self._node(event, (*path, len(data)), lines))
        return data

    def _mapping(self, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self.refuse(line, "expected a plain word as key", path)
            self._tick(line, 1)
            key = event.value
            value = next(self._events)
            if key == "<<" and event.implicit[0]:
                merged = self._node(value, (*path, key), {})
                if not isinstance(merged, dict):
                    raise self.refuse(line, "expected a map to merge (<<)", path)
                data = {**merged, **data}
                continue
            if (*path, key) in lines:
                raise self.refuse(line, f"key {key!r} stands twice", (*path, key))
            lines[(*path, key)] = line
            data[key] = self._node(value, (*path, key), lines)
        return data


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def read_yaml(text: str, file: str) -> list[Document]:
    """All documents of a text that are not empty.  Raises ManifestError for anything that is no usable YAML."""
    reader = _Reader(text, file)
    try:
        return list(reader.documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        what = " ".join(filter(None, (error.context, error.problem)))
        raise reader.refuse(line, f"no valid YAML: {what}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise reader.refuse(0, f"no valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise reader.refuse(0, f"nested deeper than {DEEPEST} levels") from error
