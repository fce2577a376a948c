"""Manifests to objects: read, brought to today's API versions, validated, with file, line and field for every fault.

`load` is pure; only `load_files` touches files.  Everything that is wrong is told at
once, and nothing is returned then: a lab is never started from half of a manifest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from hoplab.kube import schema, validate
from hoplab.kube.objects import KubeObject, Loaded
from hoplab.kube.problems import ManifestError, Problem, field_name
from hoplab.kube.together import check_together
from hoplab.kube.types import ObjectMeta, Origin
from hoplab.kube.versions import CURRENT, modernize
from hoplab.kube.yaml_reader import Document, read_yaml

LARGEST_FILE = 4 << 20
CLUSTER_SCOPED = ("Namespace", "Node", "IngressClass")


def load_files(paths: Sequence[FilePath | str]) -> Loaded:
    """Objects of several files, checked together.  Raises ManifestError."""
    loaded = [load(_read(FilePath(path)), str(path), together=False) for path in paths]
    objects = tuple(each for one in loaded for each in one.objects)
    problems = check_together(objects)
    if problems:
        raise ManifestError(problems)
    return Loaded(objects, tuple(warning for one in loaded for warning in one.warnings))


def _read(path: FilePath) -> str:
    def refuse(message: str) -> ManifestError:
        return ManifestError([Problem(str(path), 0, "", message)])

    if path.is_dir():
        raise refuse("expected a manifest, found a folder")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise refuse(f"larger than {LARGEST_FILE >> 20} MB: no manifest of this lab is")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise refuse("no such file") from error
    except UnicodeDecodeError as error:
        raise refuse(f"not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror}") from error


def load(text: str, filename: str, *, together: bool = True) -> Loaded:
    """Objects of one text of YAML documents; `List` objects are opened.  Raises ManifestError with all problems."""
    documents = read_yaml(text, filename)
    if not documents:
        raise ManifestError([Problem(filename, 0, "", "empty: expected at least one Kubernetes object")])
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
    made = _object(Document(data, line, {}), filename, problems, [])
    if made is None or problems:
        raise ManifestError(problems)
    return made


def _opened(document: Document, file: str, problems: list[Problem]) -> Iterator[Document]:
    data = document.data
    if not isinstance(data, dict):
        message = f"expected a Kubernetes object, found {schema.describe(data)}"
        problems.append(Problem(file, document.line, "", message))
    elif data.get("kind") == "List" and isinstance(data.get("items"), list):
        for number, item in enumerate(data["items"]):
            prefix = ("items", number)
            lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == prefix}
            yield from _opened(Document(item, lines.get((), document.line), lines), file, problems)
    else:
        yield document


def _object(document: Document, file: str, problems: list[Problem], warnings: list[str]) -> KubeObject | None:
    def problem(path: tuple[str | int, ...], message: str) -> None:
        problems.append(Problem(file, document.line_of(path), field_name(path), message))

    for key in ("apiVersion", "kind"):
        if not isinstance(document.data.get(key), str):
            problem((key,), "Required value")
            return None
    data, warning = modernize(document.data)
    version, kind = data["apiVersion"], data["kind"]
    type_key = f"{version}/{kind}"
    if type_key not in schema.kinds():
        problem(("apiVersion",), _unknown(version, kind))
        return None
    if warning:
        warnings.append(f"{Origin(file, document.line)}: {warning}")
    found = list(schema.check(data, type_key)) or list(validate.check(data))
    for path, message in found:
        problem(path, message)
    if found:
        return None
    return KubeObject(version, kind, _meta(data), data, Origin(file, document.line), document.lines)


def _unknown(version: str, kind: str) -> str:
    known = [tuple(key.rsplit("/", 1)) for key in schema.kinds()]
    versions = [v for v, k in known if k == kind] + [v for (v, k) in CURRENT if k == kind]
    if versions:
        return f"no kind {kind} in {version}; it is in {', '.join(dict.fromkeys(versions))}"
    near = difflib.get_close_matches(kind, [k for _v, k in known], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"the lab knows no kind {kind} ({version}){hint}"


def _meta(document: Mapping[str, Any]) -> ObjectMeta:
    meta = document.get("metadata") or {}
    namespace = "" if document["kind"] in CLUSTER_SCOPED else meta.get("namespace") or "default"
    return ObjectMeta(
        meta["name"],
        namespace,
        meta.get("uid") or "",
        dict(meta.get("labels") or {}),
        dict(meta.get("annotations") or {}),
    )
