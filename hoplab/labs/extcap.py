"""What Wireshark is told of running labs: its external capture (extcap) interface, as text.

Wireshark runs every program in its extcap folders and asks it which interfaces it has
(--extcap-interfaces), which link type and settings each of them has (--extcap-dlts,
--extcap-config), and at last to write frames into a pipe (--capture --fifo).  The answers are
sentences: a word, then values in braces.  Source: extcap(4), Wireshark's doc/extcap.adoc.
Pure: names in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from hoplab.errors import InputError
from hoplab.labs.targets import pod_name

PREFIX = "hoplab-"
HELP = "hoplab's docs/pcapng.md"
ETHERNET = "dlt {number=1}{name=EN10MB}{display=Ethernet}"
SETTINGS = (
    "arg {number=0}{call=--places}{display=Only these places}{type=string}{required=false}"
    "{tooltip=Nodes, pods and machines, with spaces between them: node1 pod/d. Empty: everywhere.}"
)
_SAFE = "-._:/"


@dataclass(frozen=True, slots=True)
class Meant:
    """What one of Wireshark's interfaces stands for: a lab, and one interface of one place or ('') everything."""

    lab: str
    place: str = ""
    interface: str = ""

    @property
    def value(self) -> str:
        """Its name for Wireshark: hoplab-LAB, or hoplab-LAB:PLACE:INTERFACE; %XX where a sentence can't hold it."""
        if not self.place:
            return f"{PREFIX}{self.lab}"
        place, interface = (quote(part, safe=_SAFE.replace(":", "")) for part in (self.place, self.interface))
        return f"{PREFIX}{self.lab}:{place}:{interface}"

    @property
    def display(self) -> str:
        """Its name for people."""
        what = f"{self.place}:{self.interface}" if self.place else "all interfaces"
        return quote(f"hoplab: {self.lab} {what}", safe=f"{_SAFE} ")

    @property
    def target(self) -> tuple[tuple[str, ...], str]:
        """TARGETs and Kubernetes namespace of a capture there."""
        if self.place.startswith("pod/"):
            namespace, name = pod_name(self.place)
            return (f"pod/{name}",), namespace
        return ((self.place,) if self.place else ()), "default"


def meant(value: str) -> Meant:
    """The reverse of `value`.  Raises InputError."""
    lab, *rest = value.removeprefix(PREFIX).split(":")
    if not value.startswith(PREFIX) or not lab or len(rest) not in (0, 2) or not all(rest):
        raise InputError(f"--extcap-interface {value!r}: expected hoplab-LAB or hoplab-LAB:PLACE:INTERFACE")
    return Meant(lab, *map(unquote, rest))


def interfaces(labs: Mapping[str, Iterable[tuple[str, str]]], version: str) -> list[str]:
    """Sentences for each lab as a whole, then for each (place, interface) of it; loopbacks are in the whole only."""
    told = [f"extcap {{version={version}}}{{help={HELP}}}{{display=hoplab}}"]
    for lab, there in labs.items():
        every = [Meant(lab), *(Meant(lab, place, interface) for place, interface in there if interface != "lo")]
        told += [f"interface {{value={one.value}}}{{display={one.display}}}" for one in every]
    return told


def settings(one: Meant) -> Sequence[str]:
    """Sentences for what can be set before a capture."""
    return () if one.place else (SETTINGS,)
