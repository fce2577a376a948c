"""Text of unknown origin made harmless to show: what would act instead of being read becomes visible.

Names, payloads and comments come from manifests and from the wire.  A terminal obeys
control characters, a page and Wireshark obey the ones that change the direction of
writing, XML cannot hold most of them.  (Unicode general categories Cc, Cf, Cs, Co, Cn,
Zl, Zp; Unicode Technical Report 36.)
"""

from __future__ import annotations

import unicodedata

_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, most: int = 0) -> str:
    """The text with every acting character written as an escape, and its middle left out beyond `most` characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    if most and len(text) > most:
        half = (most - 5) // 2
        text = f"{text[:half]} ... {text[len(text) - half :]}"
    return text


def _shown(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) not in _ACTING:
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
