"""A Wireshark profile for reading runs: which columns, which colours, which buttons, which settings.

A profile is a folder of text files in Wireshark's configuration folder.  A frame shows up
once for each interface that it passed, so what Wireshark takes for faults (the same
segment again) is the normal case here, and what it hides (the interface's name, the
comments) is the story.  Colours: each place has a hue of its own, pale for frames that no
told flow has, stronger where one was rewritten.
Formats: Wireshark's User's Guide, appendix "Files and Folders" (preferences, colorfilters,
dfilter_buttons, recent).  Pure: places in, texts out.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence

PROFILE = "hoplab"
TOLD = "frame.comment"
"""Display filter for the frames of the flows that are told one by one."""
PLACES = ("client", "lb", "node1", "node2", "node3", "router", "internet", "nodenet")
"""Whom the profile has colours for when there is no run to take them from."""
MOST_PLACES = 60
MOST_FLOWS = 6
GOLDEN = 0.381966
"""Part of the circle between two hues: neighbours are far apart however many there are."""
FIRST_HUE = 0.57
NOT_RED = (0.07, 0.93)
"""Red says that something went wrong, so no place has it."""
LIST_HEIGHT = 380
"""Pixels of the list of frames."""

COLUMNS: Sequence[tuple[str, str, int]] = (
    ("No.", "%m", 60),
    ("Time", "%t", 100),
    ("Interface", "%Cus:frame.interface_name:0:R", 165),
    ("In/Out", "%Cus:frame.packet_flags_direction:0:R", 75),
    ("Source", "%s", 135),
    ("Port", "%S", 55),
    ("Destination", "%d", 135),
    ("Port", "%D", 55),
    ("TTL", "%Cus:ip.ttl || ipv6.hlim:0:R", 45),
    ("Story", "%Cus:frame.comment:1:R", 310),
    ("What was done here", "%Cus:frame.comment || frame.number:2:R", 560),
    ("and", "%Cus:frame.comment || frame.number:3:R", 560),
    ("Protocol", "%p", 70),
    ("Info", "%i", 600),
)
"""Title, Wireshark's format, width in pixels.

Widths go with a column's field, so a second column of the same field writes it differently (there is no second number).
"""

SETTINGS: Mapping[str, str] = {
    "nameres.network_name": "TRUE",
    "nameres.dns_pkt_addr_resolution": "FALSE",
    "nameres.use_external_name_resolver": "FALSE",
    "nameres.transport_name": "FALSE",
    "tcp.analyze_sequence_numbers": "FALSE",
    "tcp.relative_sequence_numbers": "FALSE",
    "tcp.check_checksum": "TRUE",
    "udp.check_checksum": "TRUE",
    "ip.check_checksum": "TRUE",
    "vxlan.udp.port": "4789,8472",
    "gui.packet_list_elide_mode": "RIGHT",
}
"""Names from the file and from nowhere else; checksums are right in a lab, so a wrong one is news; the same segment on
the next interface is no retransmission; Linux' VXLAN uses port 8472."""

WHY = 'frame.comment contains ": why: "'
REFUSED = 'frame.comment contains ": drop by" || frame.comment contains ": reject by"'
REWRITTEN = " || ".join(
    f'frame.comment contains "{words}"'
    for words in ("DNAT by", "masquerade by", "SNAT by", "redirect by", "rewritten (connection tracking)")
)
BACK = 'frame.comment contains " back: "'
THERE = f"{TOLD} && !({BACK})"


def profile(places: Iterable[str] = (), flows: int = 0) -> dict[str, str]:
    """The profile's files by name.

    `places` are the run's (PLACES when there are none), `flows` is how many flows it tells: the first few get a button.
    """
    return {
        "preferences": preferences(),
        "colorfilters": colour_rules(places),
        "dfilter_buttons": buttons(flows),
        "recent": recent(),
    }


def preferences() -> str:
    """Columns and settings."""
    columns = ",\n".join(f'\t"{title}", "{form}"' for title, form, _width in COLUMNS)
    settings = "".join(f"{name}: {value}\n" for name, value in SETTINGS.items())
    return f"# hoplab's profile; docs/pcapng.md explains it.\ngui.column.format:\n{columns}\n{settings}"


def recent() -> str:
    """Widths of the columns, and time as seconds since the first frame."""
    # A custom column is known there by its field alone: without occurrence and resolution.
    known = [(form.rsplit(":", 2)[0] if form.startswith("%Cus:") else form, width) for _title, form, width in COLUMNS]
    widths = ",\n".join(f'\t"{form}", "{width}"' for form, width in known)
    look = f"gui.time_format: RELATIVE\ngui.wireless_toolbar_show: FALSE\ngui.geometry_main_upper_pane: {LIST_HEIGHT}\n"
    return f"{look}column.width:\n{widths}\n"


def colour_rules(places: Iterable[str] = ()) -> str:
    """Rules in the order in which Wireshark tries them: what went wrong, then place by place, then pods of any name."""
    rules = [
        _rule("why a flow failed", WHY, (0.0, 0.75, 0.72), (1, 1, 1)),
        _rule("dropped or rejected by a rule", REFUSED, (0.0, 0.45, 0.95), (0.35, 0, 0)),
    ]
    wanted = [place for place in dict.fromkeys(places) if re.fullmatch(r"[A-Za-z0-9./-]+", place)] or list(PLACES)
    for number, place in enumerate(wanted[:MOST_PLACES]):
        hue = NOT_RED[0] + (FIRST_HUE + number * GOLDEN) % 1 * (NOT_RED[1] - NOT_RED[0])
        # A dot stands for itself between brackets: neither file has to escape anything then.
        rules += _of_place(place, f'frame.interface_name matches "^{place.replace(".", "[.]")}:"', hue)
    rules += _of_place("other pods", 'frame.interface_name matches "^pod/"', NOT_RED[1])
    return "# hoplab's colours; docs/pcapng.md explains them.\n" + "".join(rules)


def _of_place(name: str, where: str, hue: float) -> list[str]:
    return [
        _rule(f"{name}, rewritten", f"{where} && ({REWRITTEN})", (hue, 0.5, 0.96), (0, 0, 0)),
        _rule(f"{name}, back", f"{where} && {BACK}", (hue, 0.2, 0.97), (0.12, 0.12, 0.5)),
        _rule(f"{name}, there", f"{where} && {TOLD}", (hue, 0.2, 0.97), (0, 0, 0)),
        _rule(f"{name}, of no told flow", where, (hue, 0.1, 1.0), (0.3, 0.3, 0.3)),
    ]


def _rule(name: str, where: str, hsv: tuple[float, float, float], text: tuple[float, float, float]) -> str:
    background = _sixteen(colorsys.hsv_to_rgb(*hsv))
    return f"@{name}@{where}@[{background}][{_sixteen(text)}]\n"


def _sixteen(colour: Iterable[float]) -> str:
    return ",".join(str(round(part * 65535)) for part in colour)


def buttons(flows: int = 0) -> str:
    """Buttons beside the filter's field."""
    wanted = [("Story", TOLD, "every frame of the flows that are told")]
    wanted += [
        (f"Flow {n}", f'frame.comment contains "flow {n}:"', f"every frame of flow {n}")
        for n in range(1, min(flows, MOST_FLOWS) + 1)
    ]
    wanted += [
        ("There", THERE, "on the way to the receiver"),
        ("Back", BACK, "on the way to the sender"),
        ("Rewritten", REWRITTEN, "where a rule or connection tracking changed addresses"),
        ("Why", f"{WHY} || {REFUSED}", "where a flow was last seen that did not end as it should"),
    ]
    rows = (",".join(f'"{_quoted(part)}"' for part in ("TRUE", *row)) for row in wanted)
    return "# hoplab's buttons; docs/pcapng.md explains them.\n" + "".join(f"{row}\n" for row in rows)


def _quoted(text: str) -> str:
    """As Wireshark's tables have it: quotation marks and backslashes by their number."""
    return text.replace("\\", "\\x5c").replace('"', "\\x22")
