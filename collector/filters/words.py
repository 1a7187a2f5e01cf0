"""A filter's words, with where each of them stood; pure."""

import re
from typing import NamedTuple

from appliance.errors import UserError

_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>\"[^\"]*\"|'[^']*')|(?P<mark><=|>=|==|!=|&&|\|\||[<>=!()\[\],])|(?P<word>[\w.:/@*+%-]+))"
)
_SAME = {"&&": "and", "||": "or", "!": "not"}


class Token(NamedTuple):
    """`text` is in lower case where it's a word of the language; "" at the end of the filter."""

    kind: str  # word, quoted, mark, end
    text: str
    position: int  # from 1

    @property
    def word(self) -> str:
        return "" if self.kind == "quoted" else self.text.lower()


class Reader:
    """What is left of a filter, a word at a time."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self.conditions = 0

    @property
    def now(self) -> Token:
        return self._tokens[self._next]

    def take(self) -> Token:
        token = self.now
        if token.kind != "end":
            self._next += 1
        return token

    def took(self, *words: str) -> str:
        """Takes the next word if it is one of these."""
        return self.take().word if self.now.word in words else ""

    def need(self, word: str, hint: str) -> None:
        if not self.took(word):
            raise self.error(f"{word!r}", hint)

    def error(self, expected: str, hint: str = "", token: Token | None = None) -> UserError:
        token = token or self.now
        found = f"not {token.text!r}" if token.kind != "end" else "but the filter ends"
        return UserError(f"filter, position {token.position}: {expected} is expected here, {found}" + _hint(hint))


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise UserError(f"filter, position {at + 1}: {text[at]!r} means nothing here" + _hint(_stray(text[at])))
        kind = match.lastgroup or ""
        word = match[kind]
        word = word[1:-1] if kind == "quoted" else _SAME.get(word, word)
        found.append(Token(kind, word, match.start(kind) + 1))
        at = match.end()
    return [*found, Token("end", "", end + 1)]


def _stray(character: str) -> str:
    return "close the quotes" if character in "\"'" else "names with other characters stand in quotes"


def _hint(hint: str) -> str:
    return f": {hint}" if hint else ""
