"""What can be asked of a running lab, as typed requests in JSON.

A request is one message, an answer is one or more; each is a JSON object.  A request
names itself in `ask`, the rest are its fields, and a field that nobody knows, that is
missing or of another type is refused, so that a program of another version of the lab
is told so instead of being misunderstood.  Pure: bytes in, values out.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hoplab.errors import InputError

VERSION = 1
"""Of this protocol; both sides say theirs."""


class ProtocolError(InputError):
    """A message that is none of the protocol's; str() says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Status:
    """How is the lab?  Answer: `nodes`, `pods`, `services`, `ready`."""

    ask: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True)
class Down:
    """End the lab.  Answered before it does."""

    ask: ClassVar[str] = "down"


@dataclass(frozen=True, slots=True)
class Exec:
    """Run a program inside.

    Three descriptors come with it: the program's standard input, output and error; with `terminal` all three are one
    terminal that becomes its controlling one.  Answers: {} when it runs, then {"exit": code}.  Meanwhile the asker
    may send {"signal": number}.
    """

    ask: ClassVar[str] = "exec"
    target: str
    argv: tuple[str, ...]
    namespace: str = "default"
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Send probes and tell their story.  Answer: `text`, `passed`."""

    ask: ClassVar[str] = "trace"
    sender: str
    to: str
    namespace: str = "default"
    transport: str = "tcp"
    count: int = 1
    size: int = 0
    source_port: int = 0
    as_json: bool = False
    verbosity: int = 0
    columns: int = 80
    colour: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """Listen in namespaces (all when `targets` is empty).

    Answers: `listen`, a list of what each descriptor that comes with the message hears, and `names`, the names that
    addresses have, now and whenever more namespaces come.  Meanwhile the asker may send {"interfaces": NAMESPACE};
    answer: `interfaces`.
    """

    ask: ClassVar[str] = "capture"
    targets: tuple[str, ...] = ()
    namespace: str = "default"


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Every interface of every namespace.  Answer: `interfaces`, the fields of hops.evidence.Interface."""

    ask: ClassVar[str] = "interfaces"


@dataclass(frozen=True, slots=True)
class Addons:
    """List the addons, or switch one.  Answer: `addons`, a list of [name, enabled]."""

    ask: ClassVar[str] = "addons"
    action: str = "list"
    name: str = ""


Request = Status | Down | Exec | Trace | Capture | Interfaces | Addons
REQUESTS: Mapping[str, type[Any]] = {
    each.ask: each for each in (Status, Down, Exec, Trace, Capture, Interfaces, Addons)
}


def to_message(request: Request) -> dict[str, Any]:
    """A request as the JSON object that goes over the socket."""
    return {"version": VERSION, "ask": request.ask, **dataclasses.asdict(request)}


def from_message(message: object) -> Request:
    """The reverse of `to_message`.  Raises ProtocolError."""
    if not isinstance(message, dict) or not isinstance(message.get("ask"), str):
        raise ProtocolError(f"expected a request with a field `ask`, found {_short(message)}")
    if message.get("version") != VERSION:
        raise ProtocolError(
            f"the lab speaks version {VERSION} of its protocol, this call version {message.get('version')}:"
            " another version of lab.py started it; end it (lab.py down) and start it anew"
        )
    kind = REQUESTS.get(message["ask"])
    if kind is None:
        raise ProtocolError(f"expected one of {', '.join(REQUESTS)}, found {_short(message['ask'])}")
    given = {key: value for key, value in message.items() if key not in ("ask", "version")}
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    for key in given:
        if key not in fields:
            raise ProtocolError(f"{kind.ask}: no field is called {_short(key)}; there are {', '.join(fields)}")
    for key, each in fields.items():
        if key in given:
            given[key] = _checked(f"{kind.ask}: {key}", hints[key], given[key])
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise ProtocolError(f"{kind.ask}: the field {key} is missing")
    made: Request = kind(**given)
    return made


def _checked(where: str, wanted: Any, value: object) -> Any:
    """The value, if it is of the wanted type: str, int, bool, a tuple or a mapping of str."""
    origin = typing.get_origin(wanted) or wanted
    if origin is tuple and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if origin is Mapping or origin is typing.get_origin(Mapping[str, str]):
        if isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair):
            return types.MappingProxyType(dict(value))
    elif type(value) is origin:
        return value
    raise ProtocolError(f"{where}: expected {getattr(wanted, '__name__', wanted)}, found {_short(value)}")


def decode(body: bytes) -> dict[str, Any]:
    """A message's bytes as the object that they are.  Raises ProtocolError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"expected JSON, found {_short(body)}: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError(f"expected a JSON object, found {_short(document)}")
    return document


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    return json.dumps(message, default=dict).encode()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
