"""Backups of routers: which are whole, which shrank, what changed between two, and that no secret is shown."""

import itertools
import random
import struct
from typing import Any

import pytest

from appliance.errors import UserError
from appliance.vault import diff, routeros

PLAIN, RC4, AES = 0xB1A1AC88, 0x7291A8EF, 0x7391A8EF
SEVEN = "# 2026-01-02 03:04:05 by RouterOS 7.14\n# software id = AAAA-BBBB\n"
SIX = "# jan/02/2026 03:04:05 by RouterOS 6.49.10\n# software id = AAAA-BBBB\n"
COMMANDS = (
    '/ip address\nadd address=192.0.2.1/24 \\\n    interface=ether1\n/system identity\nset name="the \\"box\\""\n'
)


def backup(magic: int, size: int = 4096, declared: int | None = None) -> bytes:
    return struct.pack("<II", magic, size if declared is None else declared) + b"x" * (size - 8)


@pytest.mark.parametrize(("magic", "said"), [(PLAIN, "not encrypted"), (RC4, "RC4"), (AES, "AES")])
def test_a_whole_backup_is_restorable_and_a_cut_one_is_not(magic: int, said: str) -> None:
    whole = backup(magic)
    verdict = routeros.judge(whole, len(whole), "r.backup")
    assert (verdict.restorable, verdict.alarm, said in verdict.facts[0]) == (True, False, True)
    assert routeros.proof(whole[:256], len(whole)) == ""
    for length in (8, 100, len(whole) - 1):
        cut = routeros.judge(whole[:length], length, "r.backup")
        assert (cut.restorable, cut.alarm) == (False, True)
        assert f"{length:,} came" in routeros.proof(whole[:256], length)


@pytest.mark.parametrize(
    ("content", "name", "restorable", "why"),
    [
        (b"", "r.backup", False, "doesn't begin"),
        (b"", "r.rsc", False, "no command"),
        (b"\x88\xac", "r.backup", False, "doesn't begin"),
        (b"hello", "notes.txt", None, ""),
        ((SEVEN + COMMANDS).encode(), "r.rsc", True, ""),
        ((SIX + COMMANDS).replace("\n", "\r\n").encode(), "any", True, ""),
        ((SEVEN + COMMANDS).encode()[:-1], "r.rsc", False, "cut off"),
        ((SEVEN + "/ip address\nadd address=1 \\\n").encode(), "r.rsc", False, "cut off"),
        ((SEVEN + '/system script\nadd source="{\n').encode(), "r.rsc", False, "/system script"),
        ((SEVEN + "/ip address\nset [find\n").encode(), "r.rsc", False, "isn't closed: /ip address"),
        ((SEVEN + COMMANDS + "#interrupted\n").encode(), "r.rsc", False, "interrupted"),
        ((SEVEN + "#error exporting /ip/x\n" + COMMANDS).encode(), "r.rsc", False, "couldn't export all"),
        ((SEVEN + "/ip\0\n").encode(), "r.rsc", False, "isn't text"),
        (SEVEN.encode(), "r.rsc", False, "no command"),
    ],
)
def test_what_a_file_is_worth(content: bytes, name: str, restorable: bool | None, why: str) -> None:
    verdict = routeros.judge(content, len(content), name)
    assert (verdict.restorable, why in " ".join(verdict.doubts)) == (restorable, True), verdict


def test_what_shrank_raises_an_alarm_and_what_is_nearly_gone_cant_be_right() -> None:
    def said(size: int, *before: int) -> tuple[bool | None, bool]:
        verdict = routeros.judge(backup(PLAIN, size), size, "r.backup", before)
        return verdict.restorable, verdict.alarm

    assert said(9000, 10_000, 10_000) == (True, False)
    assert said(4000, 10_000, 10_000) == (True, True)
    assert said(900, 10_000, 10_000) == (False, True)
    assert said(900, 1000) == (True, False)
    assert said(400, 900) == (True, False), "a few bytes are no alarm"
    assert said(10_000, 10_000, 10_000, 10_000, 900_000_000) == (True, False), "one odd one counts little"


def test_only_what_changed_is_a_difference() -> None:
    broken = COMMANDS.replace("interface=ether1", "inter\\\n    face=ether1")
    same = diff.compare((SIX + COMMANDS).encode(), (SEVEN + broken).encode(), export=True)
    assert (same.hunks, same.added, same.removed) == ([], 0, 0)
    new = COMMANDS.replace("192.0.2.1/24", "192.0.2.9/24")
    found = diff.compare((SIX + COMMANDS).encode(), (SEVEN + new).encode(), export=True)
    assert (found.added, found.removed, [hunk.menu for hunk in found.hunks]) == (1, 1, ["/ip address"])
    text = diff.as_text(found)
    assert "-add address=192.0.2.1/24 interface=ether1\n+add address=192.0.2.9/24 interface=ether1" in text
    plain = diff.compare((SIX + COMMANDS).encode(), (SEVEN + COMMANDS).encode())
    assert plain.added == plain.removed == 1  # as a text the first line counts


@pytest.mark.parametrize(
    "line",
    [
        "add name=u password=S3cr3t",
        'add name=u password="S3cr3t"',
        'add name=u password="a\\"S3cr3t b\\\\" profile=p',
        "set secret=S3cr3t",
        'add pre-shared-key="x S3cr3t"',
        "set wpa-pre-shared-key=S3cr3t wpa2-pre-shared-key=S3cr3t",
        "add private-key=S3cr3t=",
        'add public-key="abc" private-key="S3cr3t="',
        "set ipsec-secret=S3cr3t",
        "set authentication-password=S3cr3t encryption-password=S3cr3t",
        "add security.passphrase=S3cr3t",
        "set static-key-0=S3cr3t",
        'add source="/tool fetch user=u password=S3cr3t upload=yes\\r\\n:log info done"',
        'add source="/tool fetch user=u password=\\"a S3cr3t\\" upload=yes\\r\\n"',
        'add source=":execute \\"fetch password=\\\\\\"S3cr3t x\\\\\\" ok\\""',
        'add source=":local ftpPassword \\"S3cr3t\\"\\r\\n:put 1"',
        'add source="a\\r\\npassword=S3cr3t\\r\\n"',
        "set url=ftp://user:S3cr3t@192.0.2.1/",
        'add password = "S3cr3t"',
        "add PASSWORD=S3cr3t",
        'add password="S3cr3t',
        "add password=ab\\$S3cr3t",
    ],
)
def test_no_secret_is_shown(line: str) -> None:
    shown = diff.hidden(line)
    assert "S3cr3t" not in shown
    assert diff.HIDDEN in shown
    changed = diff.compare(f"/x\n{line}\n".encode(), f"/x\n{line.replace('S3cr3t', 'N3w')}\n".encode(), export=True)
    assert (changed.added, changed.removed) == (1, 1)  # that it changed is seen
    assert not {"S3cr3t", "N3w"} & set(diff.as_text(changed).replace('"', " ").split())
    assert "N3w" not in diff.as_text(changed)


def test_what_is_no_secret_stays() -> None:
    for line in ('add public-key="abc="', "set name=router address=192.0.2.1", 'set password="" name=x', "add pass=1"):
        assert diff.hidden(line) == line or line == "add pass=1"
    assert "public2" not in diff.hidden("add name=public2", "/snmp community")
    assert diff.hidden('add password="a b" comment="stays"') == f'add password={diff.HIDDEN} comment="stays"'


def test_differences_of_moved_and_repeated_lines_are_right() -> None:
    """Whatever is shown, taking it from one text gives the other."""
    chance = random.Random(4)
    for _ in range(200):
        old = [chance.choice("abcdefgh") * chance.randrange(1, 3) for _ in range(chance.randrange(30))]
        new = [line for line in old if chance.random() > 0.2]
        new[chance.randrange(len(new) + 1) : 0] = ["z"] * chance.randrange(3)
        pairs = list(diff._matches(old, new))
        assert all(old[a] == new[b] for a, b in pairs)
        assert pairs == sorted(set(pairs))
        assert all(one[0] < two[0] and one[1] < two[1] for one, two in itertools.pairwise(pairs))
        found = diff.compare("\n".join(old).encode(), "\n".join(new).encode())
        assert len(new) - len(old) == found.added - found.removed


def hostile() -> list[tuple[str, Any, Any]]:
    count = 40_000
    numbers = [f"line {n}" for n in range(count)]
    return [
        ("backwards", "\n".join(numbers), "\n".join(numbers[::-1])),
        ("all the same", "a\n" * count, "a\n" * (count // 2) + "b\n" + "a\n" * (count // 3)),
        ("two in turn", "a\nb\n" * (count // 2), "b\na\nb\n" * (count // 3)),
        ("one line", "a" * 4_000_000, "b" * 4_000_000),
        ("backslashes", "\\" * 1_000_000, 'password="' + "\\" * 1_000_000),
        ("names", "a=" * 1_000_000, "password=" * 100_000),
        ("quotes", 'password=\\"' * 50_000, '"' * 1_000_000),
    ]


@pytest.mark.parametrize(("name", "old", "new"), hostile(), ids=lambda value: str(value)[:12])
def test_hostile_texts_take_bounded_work(name: str, old: str, new: str) -> None:
    found = diff.compare(old.encode(), new.encode(), export=True)
    assert found.added or found.removed
    assert sum(len(hunk.lines) for hunk in found.hunks) <= diff.MAX_SHOWN
    assert all(len(line.text) <= diff.MAX_WIDTH for hunk in found.hunks for line in hunk.lines)
    routeros.judge(new.encode(), len(new), "x.rsc")


def test_what_cant_be_compared_is_said() -> None:
    for content in (b"\0", b"a" * (diff.MAX_BYTES + 1), b"\n" * (diff.MAX_LINES + 2)):
        with pytest.raises(UserError):
            diff.compare(b"", content)
