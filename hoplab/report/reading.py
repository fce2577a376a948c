"""Reads a run back from what it left, and says which field is wrong when it is none.

The JSON of a run may come from another version, another machine or an editor, so
everything that is used later is looked at here, once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hoplab.errors import InputError
from hoplab.report.json_report import Document

VERSION = 1
_TUPLE: dict[str, Any] = {"src": str, "sport": int, "dst": str, "dport": int}
_RULE: dict[str, Any] = {"table": str, "chain": str, "rule": str, "verdict": str}
_HOP: dict[str, Any] = {
    "node": str,
    "in": (str, None),
    "out": (str, None),
    "before": _TUPLE,
    "after": _TUPLE,
    "ttl_in": (int, None),
    "ttl_out": (int, None),
    "rewrite": [str],
    "rules": [_RULE],
    "frames": [int],
    "time_ns": int,
}
_WAYS: dict[str, Any] = {"name": str, "outcome": str, "protocol": str, "forward": [_HOP], "reply": [_HOP]}
_RUN: dict[str, Any] = {
    "scenario": str,
    "passed": bool,
    "seed": int,
    "checks": [{"name": str, "passed": bool, "expected": str, "observed": str, "evidence": [str]}],
    "flows": [_WAYS],
}
_LATER: dict[str, Any] = {
    "started": "",
    "options": {},
    "timings_s": {},
    "spread": [],
    "topology": {"places": [], "links": []},
    "artifacts": {},
    "losses": [],
    "problems": [],
    "reasons": [],
}
"""Fields that a run of an earlier release has not got, with what stands for them."""
_COUNTS: dict[Any, Any] = {str: int}
_LATER_SHAPE: dict[str, Any] = {
    "started": str,
    "options": {str: str},
    "timings_s": {str: (int, float)},
    "spread": [{"title": str, "flows": int, "entered": _COUNTS, "answered": _COUNTS, "outcomes": _COUNTS}],
    "topology": {"places": [{"name": str, "role": str, "host": str, "addresses": [str]}], "links": [[str]]},
    "artifacts": {str: str},
    "losses": [{"node": str, "source": str, "lost": int, "reason": str}],
    "problems": [str],
    "reasons": [{"cause": str, "node": str, "words": str}],
}
_FLOW_LATER: dict[str, Any] = {"passages": [], "conntrack": [], "legs": [], "reasons": [], "reason": "", "sender": ""}
_FLOW_LATER_SHAPE: dict[str, Any] = {
    "passages": [
        {"label": str, "reply": bool, "retransmission": bool, "nodes": [str], "frames": [int], "time_ns": int}
    ],
    "conntrack": [{"node": str, "original": _TUPLE, "reply": _TUPLE}],
    "reasons": [{"cause": str, "node": str, "words": str}],
    "reason": str,
    "sender": str,
}
_RULE_LATER = {"does": "", "object": "", "hook": "", "family": "", "comment": ""}
_WORDS: dict[type, str] = {
    str: "a text", int: "a number", bool: "true or false", list: "a list", dict: "an object", float: "a number"
}  # fmt: skip
_HOP_LATER: dict[str, Any] = {"mac_in": None, "mac_out": None, "tunnel": "", "switches": [], "path": []}
_HOP_LATER_SHAPE: dict[str, Any] = {
    "tunnel": str,
    "switches": [str],
    "path": [str],
    "rules": [dict.fromkeys(_RULE_LATER, str)],
}


def find_run(name: str, captures: Path) -> Path:
    """The run.json that a user means: a file, a folder with one, or a run's name in the captures' folder.

    Raises InputError.
    """
    given = Path(name)
    for path in (given, given / "run.json", captures / name / "run.json"):
        if path.is_file():
            return path
    raise InputError(
        f"{name}: there is no run of that name. Expected a folder that a run left (with run.json), a run.json,"
        f" or one of the names in {captures}"
    )


def read_run(path: Path) -> Document:
    """A run's JSON document, complete.  Raises InputError, naming file and field."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        found = document.get("version") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"{path}: expected the JSON of a run, with version {VERSION}; found {found!r}")
    _hold(document, _RUN, str(path))
    for name, default in _LATER.items():
        if not isinstance(document.setdefault(name, default), type(default)):
            raise InputError(f"{path}: {name}: expected {_name(type(default))}")
    _hold(document, _LATER_SHAPE, str(path))
    for number, flow in enumerate(document["flows"]):
        _complete(flow, f"{path}: flows[{number}]")
    return document


def _complete(flow: Document, where: str) -> None:
    for name, default in _FLOW_LATER.items():
        if not isinstance(flow.setdefault(name, default), type(default)):
            raise InputError(f"{where}.{name}: expected {_name(type(default))}")
    _hold(flow, _FLOW_LATER_SHAPE, where)
    for way in ("forward", "reply"):
        for hop in flow[way]:
            for name, value in _HOP_LATER.items():
                hop.setdefault(name, value)
            for rule in hop["rules"]:
                for name in _RULE_LATER:
                    rule.setdefault(name, "")
            _hold(hop, _HOP_LATER_SHAPE, f"{where}.{way}")
    for number, leg in enumerate(flow["legs"]):
        _hold(leg, {**_WAYS, "leg": int}, f"{where}.legs[{number}]")
        _complete(leg, f"{where}.legs[{number}]")


def _hold(value: Any, shape: Any, where: str) -> None:
    """Hold a value against a shape: a type, several in a tuple, a list of one shape, a mapping of shapes.

    A mapping whose one key is `str` has any names, and values of that shape.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected an object, found {_name(type(value))}")
        for key, inner in dict.fromkeys(value, shape[str]).items() if str in shape else shape.items():
            if key not in value:
                raise InputError(f"{where}: {key} is missing")
            _hold(value[key], inner, f"{where}: {key}" if ": " not in where else f"{where}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise InputError(f"{where}: expected a list, found {_name(type(value))}")
        for number, one in enumerate(value):
            _hold(one, shape[0], f"{where}[{number}]")
    else:
        allowed = shape if isinstance(shape, tuple) else (shape,)
        if not any(value is None if kind is None else type(value) is kind for kind in allowed):
            raise InputError(f"{where}: expected {' or '.join(map(_name, allowed))}, found {_name(type(value))}")


def _name(kind: type | None) -> str:
    return _WORDS.get(kind, "null") if kind is not None else "null"
