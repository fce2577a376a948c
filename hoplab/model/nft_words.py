"""nft's language as a sequence of words, and a cursor that reads them one after the other.

Line ends matter (they end a rule) and are words of their own; comments and continuations are none.  Chain names may
hold dots, slashes and dashes, so a name takes all of them; numbers and addresses begin with a digit and don't.

Source: nft(8), "Lexical conventions"; nftables src/scanner.l.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from hoplab.model.rules import Unsupported

_WORD = re.compile(
    r"""
    (?P<skip>[ \t\r]+ | \\\n | \#[^\n]*)
  | (?P<word>
      "[^"\n]*"
    | (?:[0-9A-Fa-f]{0,4}:){2,7} (?: \d+\.\d+\.\d+\.\d+ | [0-9A-Fa-f]{1,4} )?
    | \d+\.\d+\.\d+\.\d+
    | 0x[0-9A-Fa-f]+
    | (?:\d+(?:ms|[smhdw]))+\b
    | \d+
    | [A-Za-z_] [A-Za-z0-9_/.\\-]* \*?
    | == | != | <= | >= | << | >>
    | \n
    | .
    )
    """,
    re.VERBOSE,
)
NEWLINE = "\n"
END = ""
_SEPARATORS = frozenset((NEWLINE, ";"))
_RULE_ENDS = frozenset((NEWLINE, ";", "}", END))


class Words:
    """The words of a text and a position among them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._words: list[str] = []
        self._starts: list[int] = []
        for found in _WORD.finditer(source):
            if found.lastgroup == "word":
                self._words.append(found.group())
                self._starts.append(found.start())
        self._words.append(END)
        self._starts.append(len(source))
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", source))]
        self.at = 0
        self.mentioned: list[tuple[str, str, int]] = []
        """Chains and sets that the text leads to: (kind, name, index of the word)."""

    def peek(self, ahead: int = 0) -> str:
        """The word `ahead` of the position, END behind the last."""
        index = self.at + ahead
        return self._words[index] if index < len(self._words) else END

    def take(self) -> str:
        """The next word; the position moves on."""
        word = self._words[self.at]
        if word is not END:
            self.at += 1
        return word

    def accept(self, *words: str) -> bool:
        """Take these words when they come next, all or none."""
        if self._words[self.at] != words[0]:
            return False
        if self._words[self.at : self.at + len(words)] == list(words):
            self.at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        """Take these words; raises ValueError when another comes."""
        for word in words:
            found = self.take()
            if found != word:
                raise ValueError(f"expected {word!r}, found {shown(found)}")

    def number(self) -> int:
        """Take a number, decimal or hexadecimal; raises ValueError."""
        word = self.take()
        try:
            return int(word, 0)
        except ValueError:
            raise ValueError(f"expected a number, found {shown(word)}") from None

    def name(self) -> str:
        """Take a name (of a table, chain, set); raises ValueError."""
        word = unquoted(self.take())
        if not word or not (word[0].isalnum() or word[0] in "_."):
            raise ValueError(f"expected a name, found {shown(word)}")
        return word

    def mention(self, kind: str) -> str:
        """Take the name of a chain or set that must exist when the text is loaded."""
        index, name = self.at, self.name()
        self.mentioned.append((kind, name, index))
        return name

    def skip_lines(self) -> None:
        """Go past line ends (within braces they mean nothing)."""
        while self._words[self.at] == NEWLINE:
            self.at += 1

    def skip_separators(self) -> None:
        """Go past line ends and semicolons."""
        while self._words[self.at] in _SEPARATORS:
            self.at += 1

    def at_end(self) -> bool:
        """Whether the rule or statement ends here."""
        return self._words[self.at] in _RULE_ENDS

    def end_statement(self) -> None:
        """Check that nothing follows the statement; raises ValueError."""
        if not self.at_end():
            raise ValueError(f"{shown(self.peek())} is not known here")

    def skip_block(self) -> None:
        """Go past a block in braces, whatever is in it."""
        depth = 0
        while True:
            word = self.take()
            if word is END:
                raise ValueError("a block isn't closed")
            depth += (word == "{") - (word == "}")
            if depth == 0 and word == "}":
                return

    def line(self, index: int) -> int:
        """The 1-based line of the word at this index."""
        return bisect_right(self._line_starts, self._starts[min(index, len(self._starts) - 1)])

    def text(self, first: int) -> str:
        """The text from the word at index `first` up to the position."""
        if self.at <= first:
            return ""
        last = self.at - 1
        return self.source[self._starts[first] : self._starts[last] + len(self._words[last])]

    def unsupported(self, error: Exception, at: int | None = None) -> Unsupported:
        """The error with the line of a word (else of the position), and that line."""
        number = self.line(max(self.at - (self.peek() in _RULE_ENDS), 0) if at is None else at)
        start = self._line_starts[number - 1]
        line = self.source[start:].partition("\n")[0]
        return Unsupported(number, line, str(error))


def shown(word: str) -> str:
    """A word as an error message names it."""
    return {NEWLINE: "the end of the line", END: "the end of the text"}.get(word, repr(word))


def unquoted(word: str) -> str:
    """A word without its quotes."""
    return word[1:-1] if word[:1] == '"' else word
