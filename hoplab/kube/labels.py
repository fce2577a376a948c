"""Label selectors: the objects' matchLabels and matchExpressions, and the query strings that kubectl -l takes.

A selector is a conjunction of requirements; each looks at one key.  Mind that `NotIn`
and `!=` hold for an object that has no such label, and that an empty selector takes
everything.  Source: apimachinery's pkg/labels/selector.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hoplab.errors import InputError
from hoplab.kube import formats
from hoplab.kube.formats import REQUIRED, Finding, each_invalid, forbidden
from hoplab.kube.problems import Path

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
"""Of a matchExpressions entry; query strings have > and < besides."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must be true of one label; `values` is empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets it."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        if self.operator == "Exists":
            return value is not None
        if self.operator == "DoesNotExist":
            return value is None
        if value is None or not _INTEGER.match(value):
            return False
        bound = int(self.values[0])
        return int(value) > bound if self.operator == "Gt" else int(value) < bound

    def __str__(self) -> str:
        if self.operator in ("Exists", "DoesNotExist"):
            return self.key if self.operator == "Exists" else f"!{self.key}"
        if self.operator in ("Gt", "Lt"):
            return f"{self.key}{'>' if self.operator == 'Gt' else '<'}{self.values[0]}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == 'In' else '!='}{self.values[0]}"
        return f"{self.key} {'in' if self.operator == 'In' else 'notin'} ({','.join(sorted(self.values))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all be met; none of them: everything is selected."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it takes everything."""
        return not self.requirements

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(each.matches(labels) for each in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)

    @classmethod
    def from_map(cls, labels: Mapping[str, str]) -> Selector:
        """The selector of a Service or ReplicationController: each label must be equal."""
        return cls(tuple(Requirement(key, "In", (labels[key] or "",)) for key in sorted(labels)))

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> Selector:
        """A LabelSelector object (matchLabels, matchExpressions) that was validated before."""
        given = document or {}
        expressions = tuple(
            Requirement(each["key"], each["operator"], tuple(each.get("values") or ()))
            for each in given.get("matchExpressions") or ()
        )
        return cls(cls.from_map(given.get("matchLabels") or {}).requirements + expressions)

    @classmethod
    def parse(cls, text: str) -> Selector:
        """A query string: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>3`.  Raises InputError that shows the place."""
        return cls(tuple(_Parser(text).requirements()))


def selector_findings(document: Mapping[str, Any] | None, path: Path) -> Iterator[Finding]:
    """What is wrong with a LabelSelector object (ValidateLabelSelector)."""
    given = document or {}
    yield from formats.labels(given.get("matchLabels"), (*path, "matchLabels"))
    for number, each in enumerate(given.get("matchExpressions") or ()):
        at: Path = (*path, "matchExpressions", number)
        operator, values = each["operator"], each.get("values") or ()
        if operator not in OPERATORS:
            yield (*at, "operator"), formats.invalid(operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            yield (*at, "values"), f"{REQUIRED}: must be specified when `operator` is 'In' or 'NotIn'"
        elif operator in ("Exists", "DoesNotExist") and values:
            message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield (*at, "values"), forbidden(message)
        yield from each_invalid((*at, "key"), each["key"], formats.qualified_name(each["key"]))
        for place, value in enumerate(values):
            yield from each_invalid((*at, "values", place), value, formats.label_value(value))


_TOKEN = re.compile(r"\s*(?:(?P<sign>==|!=|[=!<>(),])|(?P<word>[^\s=!<>(),]+)|(?P<end>\Z))")
_INTEGER = re.compile(r"[+-]?\d{1,19}\Z")


class _Parser:
    """Recursive descent over the tokens of one query string; words `in` and `notin` are operators after a key only."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._token = ""
        self._start = 0
        self._advance()

    def _advance(self) -> str:
        """The current token, after stepping to the next one; '' is the end."""
        current = self._token
        match = _TOKEN.match(self._text, self._place)
        self._token = (match["sign"] or match["word"] or "") if match else ""
        self._start = match.end() - len(self._token) if match else len(self._text)
        self._place = match.end() if match else len(self._text)
        return current

    def _wrong(self, expected: str) -> InputError:
        found = f"'{self._token}'" if self._token else "the end"
        where = f"at character {self._start + 1} of {self._text!r}"
        return InputError(f"label selector: expected {expected}, found {found} {where}")

    def _word(self, what: str) -> str:
        if not self._token or self._token in ("==", "!=", *"=!<>(),"):
            raise self._wrong(what)
        return self._advance()

    def requirements(self) -> Iterator[Requirement]:
        if not self._token:
            return
        while True:
            yield self._requirement()
            if not self._token:
                return
            if self._token != ",":
                raise self._wrong("',' or the end")
            self._advance()

    def _requirement(self) -> Requirement:
        if self._token == "!":
            self._advance()
            return Requirement(self._key(), "DoesNotExist")
        key = self._key()
        if self._token in ("", ","):
            return Requirement(key, "Exists")
        operator = self._advance()
        if operator in ("=", "==", "!="):
            return Requirement(key, "NotIn" if operator == "!=" else "In", (self._value(),))
        if operator in ("in", "notin"):
            return Requirement(key, "In" if operator == "in" else "NotIn", self._values())
        if operator in ("<", ">"):
            if not _INTEGER.match(self._token):
                raise self._wrong("a whole number")
            return Requirement(key, "Gt" if operator == ">" else "Lt", (self._advance(),))
        raise InputError(
            f"label selector: expected '=', '!=', 'in', 'notin', '<', '>' or ',' after {key!r}, found {operator!r}"
            f" in {self._text!r}"
        )

    def _key(self) -> str:
        key = self._word("a label's key")
        for complaint in formats.qualified_name(key):
            raise InputError(f"label selector {self._text!r}: key {key!r}: {complaint}")
        return key

    def _value(self) -> str:
        """A word, or nothing: `a=` asks for the empty value."""
        if self._token in ("", ",", ")"):
            return ""
        value = self._word("a value")
        for complaint in formats.label_value(value):
            raise InputError(f"label selector {self._text!r}: value {value!r}: {complaint}")
        return value

    def _values(self) -> tuple[str, ...]:
        if self._token != "(":
            raise self._wrong("'('")
        self._advance()
        values = [self._value()]
        while self._token == ",":
            self._advance()
            values.append(self._value())
        if self._token != ")":
            raise self._wrong("',' or ')'")
        self._advance()
        return tuple(dict.fromkeys(values))
