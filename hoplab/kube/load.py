"""Manifests to objects: read, brought to today's API versions, validated, with file, line and field for every fault.

`load` is pure; only `load_files` touches files.  Everything that is wrong is told at
once, and nothing is returned then: a lab is never started from half of a manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from hoplab.kube import schema, validate
from hoplab.kube.defaults import defaulted
from hoplab.kube.formats import REQUIRED
from hoplab.kube.objects import KubeObject, Loaded, meta_of
from hoplab.kube.problems import ManifestError, Path, Problem, field_name
from hoplab.kube.together import check_together
from hoplab.kube.types import Origin
from hoplab.kube.versions import CURRENT, Modern, modernize
from hoplab.kube.yaml_reader import Document, read_yaml

LARGEST_FILE = 4 << 20
TOO_LARGE = (
    f"larger than {LARGEST_FILE >> 20} MB: no manifest of this lab is; split it, or check that it is the right file"
)


def load_files(paths: Sequence[FilePath | str]) -> Loaded:
    """Objects of several files, checked together.  Raises ManifestError with the problems of all of them."""
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            loaded.append(load(read_text(FilePath(path)), str(path), together=False))
        except ManifestError as error:
            problems += error.problems
    objects = tuple(each for one in loaded for each in one.objects)
    problems = problems or list(check_together(objects))
    if problems:
        raise ManifestError(problems)
    return Loaded(objects, tuple(warning for one in loaded for warning in one.warnings))


def read_text(path: FilePath) -> str:
    """A file's text.  Raises ManifestError for one that can't be read, is no UTF-8 or far too large."""

    def refuse(message: str) -> ManifestError:
        return ManifestError([Problem(str(path), 0, "", message)])

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise refuse(TOO_LARGE)
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise refuse("no such file") from error
    except IsADirectoryError as error:
        raise refuse("expected a manifest, found a folder: name the files in it") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse(f"expected UTF-8 text, found byte 0x{content[error.start]:02x} in line {line}") from error
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror}") from error
    except ValueError as error:
        raise refuse(f"is no file name: {error}") from error


def load(text: str, filename: str, *, together: bool = True) -> Loaded:
    """Objects of one text of YAML documents; `List` objects are opened.  Raises ManifestError with all problems."""
    if len(text) > LARGEST_FILE:
        raise ManifestError([Problem(filename, 0, "", TOO_LARGE)])
    documents = read_yaml(text, filename)
    if not documents:
        raise ManifestError([Problem(filename, 0, "", "empty: expected at least one Kubernetes object")])
    return load_documents(documents, filename, together=together)


def load_documents(documents: Sequence[Document], filename: str, *, together: bool = True) -> Loaded:
    """Objects of documents that were read already, as `load` does it."""
    objects: list[KubeObject] = []
    problems: list[Problem] = []
    warnings: list[str] = []
    for document in documents:
        for part in _opened(document, filename, problems):
            made = _object(part, filename, problems, warnings)
            if made is not None:
                objects.append(made)
    if not problems and together:
        problems += check_together(objects)
    if problems:
        raise ManifestError(problems)
    return Loaded(tuple(objects), tuple(warnings))


def load_document(data: Mapping[str, Any], filename: str, line: int = 0) -> KubeObject:
    """One object that was parsed already (objects in place in a check file).  Raises ManifestError."""
    problems: list[Problem] = []
    made = _object(Document(dict(data), line, {}), filename, problems, [])
    if made is None or problems:
        raise ManifestError(problems)
    return made


def _opened(document: Document, file: str, problems: list[Problem]) -> Iterator[Document]:
    """The object itself, or those in a List (also `kubectl get -o yaml` and ServiceList and its like)."""
    data = document.data
    if not isinstance(data, dict):
        message = f"expected a Kubernetes object, found {schema.describe(data)}"
        problems.append(Problem(file, document.line, "", message))
        return
    kind = data.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List"):
        yield document
        return
    items = data.get("items")
    if not isinstance(items, list):
        line = document.line_of(("items",))
        problems.append(Problem(file, line, "items", f"expected a list, found {schema.describe(items)}"))
        return
    inherited = {} if kind == "List" else {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")}
    for item in document.part(("items",)).items():
        if isinstance(item.data, dict):
            item = replace(item, data={**inherited, **item.data})
        yield from _opened(item, file, problems)


def _object(document: Document, file: str, problems: list[Problem], warnings: list[str]) -> KubeObject | None:
    for key in ("apiVersion", "kind"):
        if not isinstance(document.data.get(key), str) or not document.data[key]:
            given = document.data.get(key)
            message = REQUIRED if given in (None, "") else f"expected a string, found {schema.describe(given)}"
            problems.append(Problem(file, document.line_of((key,)), key, message))
            return None
    modern = modernize(document.data)
    data = modern.document
    version, kind = data["apiVersion"], data["kind"]
    type_key = f"{version}/{kind}"
    if type_key not in schema.kinds():
        problems.append(_unknown(version, kind, file, document))
        return None
    if modern.warning:
        warnings.append(f"{Origin(file, document.line)}: {modern.warning}")
    found = list(schema.check(data, type_key))
    if all(message.startswith(schema.UNKNOWN_FIELD) for _path, message in found):
        found += validate.check(data)
    if found:
        told = [_told(path, message, modern, document, file) for path, message in found]
        problems += sorted(told, key=lambda problem: problem.line)
        return None
    made = defaulted(data)
    return KubeObject(version, kind, meta_of(made), made, Origin(file, document.line), document.lines)


def _told(path: Path, message: str, modern: Modern, document: Document, file: str) -> Problem:
    """A finding where its reader wrote the field, also when an old API version had it in another place."""
    for length in range(len(path), 0, -1):
        if path[:length] in modern.moved:
            path = modern.moved[path[:length]] + path[length:]
            break
    return Problem(file, document.line_of(path), field_name(path), message)


def _unknown(version: str, kind: str, file: str, document: Document) -> Problem:
    known = [tuple(key.rsplit("/", 1)) for key in schema.kinds()]
    versions = [v for v, k in known if k == kind] + [v for (v, k) in CURRENT if k == kind]
    if versions:
        message = f"no kind {kind} in {version}; it is in {', '.join(dict.fromkeys(versions))}"
        return Problem(file, document.line_of(("apiVersion",)), "apiVersion", message)
    message = f"the lab knows no kind {kind} ({version}){schema.nearest(kind, [k for _v, k in known])}"
    return Problem(file, document.line_of(("kind",)), "kind", message)
