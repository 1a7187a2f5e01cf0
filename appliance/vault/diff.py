"""What is different between two versions of a text or a router's export, without noise and without secrets; pure.

Work is bounded whatever the texts are: common ends, lines that each side has once, and between these small pieces.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from appliance.errors import UserError
from appliance.vault import routeros

MAX_BYTES = 4 << 20
MAX_LINES = 60_000
MAX_SHOWN = 2_000  # lines of an answer
MAX_WIDTH = 1_000
CONTEXT = 2
HIDDEN = "…"
_STEPS = 20_000_000  # of looking for matches between lines that are there several times
_SMALL = 10_000

_NAME = re.compile(
    r"(?<![\w-])(?P<name>[\w-]{1,64})[ \t]*=[ \t]*|:(?:local|global|set)[ \t]+\"?(?P<variable>[\w-]{1,64})\"?[ \t]+"
)
_VALUE = re.compile(
    r'"(?:[^"\\]|\\.)*"?'  # quoted
    r'|(?P<quote>\\+")(?:(?!(?<!\\)(?P=quote)).)*(?:(?P=quote)|$)'  # the same inside of a quoted script
    r'|(?:\\[^rn"]|[^\s";\\])+'  # bare
)
_ENDS = ("password", "passwd", "passphrase", "pass", "pwd", "pw", "secret", "token", "psk", "key", "sim-pin", "otp")
_PUBLIC = ("public-key", "publickey")
_IN_URL = re.compile(r"(?<=://)([^\s/:@\"]{1,64}):[^\s@\"]{1,200}@")
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END|$)")
_COMMUNITIES = "/snmp community"

Pair = tuple[int, int]


class Line(NamedTuple):
    """`sign` is "+", "-" or " "."""

    sign: str
    text: str


class Hunk(NamedTuple):
    """Lines that belong together; `menu` is where an export has them, the numbers are of the first line."""

    menu: str
    before: int
    after: int
    lines: Sequence[Line]


class Diff(NamedTuple):
    hunks: Sequence[Hunk]
    added: int
    removed: int
    cut: bool = False  # more is different than is shown


def compare(before: bytes, after: bytes, export: bool = False) -> Diff:
    """Raises UserError for what can't be compared. Secrets that changed make a line differ, and are not shown."""
    old, new = (_lines(content, export) for content in (before, after))
    pairs = [*_matches(old, new), (len(old), len(new))]
    return _hunks(old, new, pairs, export)


def _lines(content: bytes, export: bool) -> list[str]:
    if len(content) > MAX_BYTES:
        raise UserError(f"files over {MAX_BYTES >> 20} MB aren't compared")
    if b"\0" in content:
        raise UserError("that is no text, so there is nothing to compare")
    text = content.decode("utf-8-sig", errors="replace")
    lines = routeros.joined(text) if export else text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) > MAX_LINES:
        raise UserError(f"texts of over {MAX_LINES:,} lines aren't compared")
    return [line.rstrip() for line in lines if not (export and routeros.DATED.match(line))]


# Secrets


def hidden(line: str, menu: str = "") -> str:
    """A line without its secrets, bare and quoted ones, also those in a script that it carries."""
    line = _PEM.sub(HIDDEN, _IN_URL.sub(rf"\1:{HIDDEN}@", line))
    parts, at = [], 0
    while found := _NAME.search(line, at):
        parts.append(line[at : found.end()])
        at = found.end()
        value = _VALUE.match(line, at) if _is_secret(found["name"] or found["variable"], menu) else None
        if value and value[0] not in ('""', r"\"\""):  # that there is none is no secret
            parts.append(HIDDEN)
            at = value.end()
    return "".join([*parts, line[at:]])


def _is_secret(name: str, menu: str) -> bool:
    plain = name.lower().replace("_", "-")
    if plain.endswith(_PUBLIC):
        return False
    numbered = plain.rstrip("0123456789").rstrip("-")
    return plain.endswith(_ENDS) or numbered.endswith(_ENDS) or (plain == "name" and menu.startswith(_COMMUNITIES))


# Matches


def _matches(old: Sequence[str], new: Sequence[str]) -> Iterator[Pair]:
    """Pairs of the lines that both have, in order."""
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        yield begin, begin
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    steps, at = _STEPS, (begin, begin)
    last = (len(old) - end, len(new) - end)
    for anchor in [*_anchors(old, new, at, last), last]:
        size = (anchor[0] - at[0], anchor[1] - at[1])
        cost = size[0] * size[1] * min(size)
        if size[0] * size[1] <= _SMALL and cost <= steps:
            steps -= cost
            yield from _between(old, new, at, anchor)
        if anchor != last:
            yield anchor
        at = anchor[0] + 1, anchor[1] + 1
    yield from ((len(old) - rest, len(new) - rest) for rest in range(end, 0, -1))


def _between(old: Sequence[str], new: Sequence[str], since: Pair, until: Pair) -> Iterator[Pair]:
    found = SequenceMatcher(None, old[since[0] : until[0]], new[since[1] : until[1]], autojunk=False)
    for block in found.get_matching_blocks():
        yield from ((since[0] + block.a + n, since[1] + block.b + n) for n in range(block.size))


def _anchors(old: Sequence[str], new: Sequence[str], since: Pair, until: Pair) -> Sequence[Pair]:
    """Lines that each side has once, as many as stand in the same order on both."""
    counts = [Counter(side[a:b]) for side, a, b in ((old, since[0], until[0]), (new, since[1], until[1]))]
    place = {new[at]: at for at in range(since[1], until[1]) if counts[1][new[at]] == 1}
    pairs = [(at, place[old[at]]) for at in range(since[0], until[0]) if counts[0][old[at]] == 1 and old[at] in place]
    tops: list[int] = []
    chain: list[tuple[Pair, int]] = []  # each with the one before it
    ends: list[int] = []
    for number, pair in enumerate(pairs):
        height = bisect_left(tops, pair[1])
        chain.append((pair, ends[height - 1] if height else -1))
        tops[height : height + 1], ends[height : height + 1] = [pair[1]], [number]
    found, at = [], ends[-1] if ends else -1
    while at >= 0:
        pair, at = chain[at]
        found.append(pair)
    return found[::-1]


# What is shown


def _hunks(old: Sequence[str], new: Sequence[str], pairs: Sequence[Pair], export: bool) -> Diff:
    menus = [_menus(side) if export else [""] * len(side) for side in (old, new)]
    hunks: list[Hunk] = []
    shown = added = removed = 0
    at = (0, 0)
    for pair in pairs:
        gone, come = pair[0] - at[0], pair[1] - at[1]
        if gone or come:
            removed, added = removed + gone, added + come
            if shown < MAX_SHOWN:
                lines = _changed(old, new, at, pair, menus, MAX_SHOWN - shown)
                shown += len(lines)
                menu = (menus[1][at[1]] if come else menus[0][at[0]]) if export else ""
                hunks.append(Hunk(menu, at[0] + 1, at[1] + 1, lines))
        at = pair[0] + 1, pair[1] + 1
    return Diff(hunks, added, removed, shown >= MAX_SHOWN)


def _changed(
    old: Sequence[str], new: Sequence[str], at: Pair, until: Pair, menus: Sequence[Sequence[str]], most: int
) -> Sequence[Line]:
    """A piece that differs, with the lines around it."""

    def cut(sign: str, side: int, since: int, till: int) -> list[Line]:
        text = (old, new)[side]
        span = range(max(0, since), min(till, len(text), max(0, since) + most))
        return [Line(sign, hidden(text[n], menus[side][n])[:MAX_WIDTH]) for n in span]

    return [
        *cut(" ", 1, at[1] - CONTEXT, at[1]),
        *cut("-", 0, at[0], until[0]),
        *cut("+", 1, at[1], until[1]),
        *cut(" ", 1, until[1], until[1] + CONTEXT),
    ][:most]


def _menus(lines: Sequence[str]) -> list[str]:
    """Of each line the menu that it is in."""
    found, menu = [], ""
    for line in lines:
        menu = routeros.menu_of(line) or menu
        found.append(menu)
    return found


def as_text(diff: Diff) -> str:
    parts = []
    for hunk in diff.hunks:
        parts.append(f"@@ -{hunk.before} +{hunk.after} @@ {hunk.menu}".rstrip())
        parts += [f"{line.sign}{line.text}" for line in hunk.lines]
    return "\n".join(parts)
