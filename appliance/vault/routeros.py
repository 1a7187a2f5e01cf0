"""What a router's backup is worth: its kind, whether it is whole, whether it could be restored; pure.

A binary backup begins with a little-endian magic, which also says how it is encrypted, and its own length.
"""

import re
import struct
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

BACKUP, EXPORT, OTHER = "backup", "export", "other"
HEAD_BYTES = 8  # of a backup: magic and length
MAX_EXPORT_BYTES = 8 << 20
SHRUNK, ABSURD = 0.5, 0.1  # of what the ones before had
SHRUNK_BYTES = 1024  # less than that is no alarm
MIN_BACKUP_BYTES = 64
LOOKED_BACK = 5
_MAGIC = {0xB1A1AC88: "", 0x7291A8EF: "RC4", 0x7391A8EF: "AES"}
# "# jan/02/2024 03:04:05 by RouterOS 6.49.10", "# 2024-01-02 03:04:05 by RouterOS 7.14"
DATED = re.compile(r"# (?:[a-z]{3}/\d{2}/\d{4}|\d{4}-\d{2}-\d{2}) \d{2}:\d{2}:\d{2} by RouterOS (\S{1,40})")
_DATED_FIRST = re.compile(rb"(?:\xef\xbb\xbf)?# [-/0-9a-z]{1,20} [:0-9]{1,10} by RouterOS ")
_MENU = re.compile(r"/[a-z0-9][a-z0-9 /-]*")
_OPENING, _CLOSING = "[{(", "]})"


class Kind(NamedTuple):
    """`declared` is the length that a backup says it has; `encryption` is empty for a plain one."""

    name: str
    encryption: str = ""
    declared: int | None = None


class Verdict(NamedTuple):
    """`restorable` is None for what is no router's backup. `doubts` say why not, or what to look at all the same."""

    kind: Kind
    restorable: bool | None
    facts: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    alarm: bool = False


def recognise(head: bytes, name: str = "") -> Kind:
    """By the first bytes; a name counts only for exports that somebody has taken the first line of."""
    if len(head) >= HEAD_BYTES:
        magic, length = struct.unpack_from("<II", head)
        if magic in _MAGIC:
            return Kind(BACKUP, _MAGIC[magic], length)
    if _DATED_FIRST.match(head) or (name.lower().endswith(".rsc") and b"\0" not in head):
        return Kind(EXPORT)
    return Kind(BACKUP) if name.lower().endswith(".backup") else Kind(OTHER)


def proof(head: bytes, size: int) -> str:
    """What a file's own format says against its being whole; empty where it says nothing."""
    declared = recognise(head).declared
    if declared is None or declared == size:
        return ""
    return f"the backup says that it has {declared:,} bytes, {size:,} came"


def judge(content: bytes, size: int, name: str = "", before: Sequence[int] = ()) -> Verdict:
    """`content` is the file, or the beginning of a large one; `before` are the sizes of those before, latest first."""
    kind = recognise(content[:256], name)
    if kind.name == OTHER:
        return Verdict(kind, None)
    facts, doubts = (_backup if kind.name == BACKUP else _export)(kind, content, size)
    size_doubt, absurd = shrinkage(size, before)
    restorable = not doubts and not absurd
    if size_doubt:
        doubts.append(size_doubt)
    return Verdict(kind, restorable, tuple(facts), tuple(doubts), not restorable or bool(size_doubt))


def shrinkage(size: int, before: Sequence[int]) -> tuple[str, bool]:
    """What to say of a file that is much smaller than those before, and whether that can't be right."""
    if not before:
        return "", False
    usual = median(before[:LOOKED_BACK])
    if size >= usual * SHRUNK or usual - size < SHRUNK_BYTES:
        return "", False
    return f"it has {size:,} bytes, those before had some {int(usual):,}", size < usual * ABSURD


def _backup(kind: Kind, content: bytes, size: int) -> tuple[list[str], list[str]]:
    if kind.declared is None:
        return [], ["it doesn't begin as a backup of RouterOS does"]
    facts = [
        f"encrypted with {kind.encryption}" if kind.encryption else "not encrypted: whoever has it has its secrets"
    ]
    if kind.declared != size:
        return facts, [f"it says that it has {kind.declared:,} bytes, it has {size:,}"]
    if size < MIN_BACKUP_BYTES:
        return facts, [f"nothing can be in {size} bytes"]
    return [*facts, "its length is what it says"], []


def _export(kind: Kind, content: bytes, size: int) -> tuple[list[str], list[str]]:
    if size > MAX_EXPORT_BYTES or len(content) < size:
        return [], [f"no export has {size:,} bytes"]
    if b"\0" in content:
        return [], ["it isn't text"]
    lines = joined(content.decode(errors="replace"))
    version = next((found[1] for line in lines[:5] if (found := DATED.match(line))), "")
    facts = [f"of RouterOS {version}"] if version else []
    return facts, list(_unreadable(content, lines))


def _unreadable(content: bytes, lines: Sequence[str]) -> Sequence[str]:
    """Why an import wouldn't read it to its end."""
    commands = [line for line in lines if line and not line.startswith("#")]
    if not any(_MENU.match(line) for line in commands):
        return ["there is no command in it"]
    if "#interrupted" in lines[-3:]:
        return ["the export was interrupted"]
    if not content.endswith(b"\n"):
        return ["its last line has no end: it is cut off"]
    if content.rstrip(b"\r\n").endswith(b"\\"):
        return ["its last command is cut off"]
    if where := _unbalanced(commands):
        return [f"a quote or bracket isn't closed: {where}"]
    return [f"RouterOS couldn't export all: {line[1:90]}" for line in lines if line.startswith("#error exporting")][:1]


def _unbalanced(commands: Sequence[str]) -> str:
    """The menu of the first command whose quotes and brackets don't match, empty where all do."""
    menu = ""
    for line in commands:
        if found := _MENU.match(line):
            menu = found[0].strip()
        if not balanced(line):
            return menu or line[:40]
    return ""


def balanced(line: str) -> bool:
    """Whether a command's quotes and brackets match; what stands in quotes doesn't count."""
    opened, quoted, escaped = [], False, False
    for letter in line:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif letter in _OPENING:
            opened.append(_CLOSING[_OPENING.index(letter)])
        elif letter in _CLOSING and (not opened or opened.pop() != letter):
            return False
    return not quoted and not opened


def joined(text: str) -> list[str]:
    """Commands on one line each: an export breaks them with `\\`, and goes on after the next line's spaces."""
    return re.sub(r"\\\r?\n[ \t]*", "", text).replace("\r\n", "\n").split("\n")


def menu_of(line: str) -> str:
    """The menu that a line opens, empty where it opens none."""
    found = _MENU.match(line)
    return found[0].strip() if found else ""
