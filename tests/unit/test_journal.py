"""The collector's journal: what it promises about datagrams that it was given."""

import sqlite3
import struct
from pathlib import Path

import peewee
import pytest
import zstandard

from collector import journal
from collector.journal import Datagram, Dropped, Heard, Journal, Once, Row, unpack

HOUR_MS = 3_600_000
AT_MS = 1_800_000_000_000


def sent(count: int, exporter: str = "192.0.2.1", at_ms: int = AT_MS, size: int = 100) -> list[Datagram]:
    return [Datagram(at_ms + i, exporter, i.to_bytes(4, "big") * (size // 4)) for i in range(count)]


def test_what_was_appended_is_read_as_it_came(tmp_path: Path) -> None:
    first, second = sent(30), sent(3, "2001:db8::1")
    mixed = [*first[:10], *second, *first[10:], Datagram(AT_MS, "2001:db8::1", b"")]
    book = Journal(tmp_path / journal.NAME)
    book.append(mixed)
    book.append(sent(1))
    rows = list(book.read(0))
    assert [(row.exporter, row.datagrams) for row in rows] == [("192.0.2.1", 30), ("2001:db8::1", 4), ("192.0.2.1", 1)]
    assert unpack(rows[0]) == first
    assert unpack(rows[1]) == [*second, mixed[-1]]
    assert (rows[0].since_ms, rows[0].until_ms) == (AT_MS, AT_MS + 29)
    assert [row.id for row in book.read(1)] == [2, 3]
    assert [row.id for row in book.read(1, 2)] == [2]
    book.close()


def test_reading_stops_at_a_size_but_gets_on(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    for _ in range(40):
        book.append(sent(1))
    assert [row.id for row in book.read(0, max_bytes=1)] == [1]
    assert len(list(book.read(0))) == 40
    book.close()


def test_a_clock_that_was_set_keeps_every_datagram_and_its_time(tmp_path: Path) -> None:
    jumping = [Datagram(at, "192.0.2.1", b"x") for at in (AT_MS, AT_MS - 90 * 24 * HOUR_MS, AT_MS + 1, 0, AT_MS * 2)]
    book = Journal(tmp_path / journal.NAME)
    book.append(jumping)
    assert [datagram for row in book.read(0) for datagram in unpack(row)] == jumping
    book.close()


def test_much_of_one_second_is_cut_into_rows_of_bounded_size(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    many = sent(150, size=60_000)
    book.append(many)
    rows = list(book.read(0))
    assert len(rows) == 3
    assert [datagram for row in rows for datagram in unpack(row)] == many
    book.close()


@pytest.mark.parametrize(
    "raw", [b"\0" * 5, struct.pack("<IH", 0, 9) + b"short", b"\0" * (2 * journal.MAX_RAW_BYTES + 1)], ids=len
)
def test_a_row_that_no_journal_wrote_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="row 7"):
        unpack(Row(7, "192.0.2.1", 0, 0, 1, zstandard.ZstdCompressor().compress(raw)))


def test_senders_that_nobody_knows_are_remembered_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEEP_OTHERS", 3)
    book = Journal(tmp_path / "journal.db")
    book.append([Datagram(1, "192.0.2.1", b"x")])
    for number in range(9):
        book.append([], others=[Heard(f"198.51.100.{number}", False, 1, 1, number, 5 + number)])
    assert [one.exporter for one in book.heard()] == [
        "192.0.2.1", "198.51.100.6", "198.51.100.7", "198.51.100.8"
    ]  # fmt: skip
    book.close()


def test_who_was_heard_is_counted_whether_collected_or_not(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    book.append(sent(2), others=[Heard("198.51.100.9", False, 5, 700, AT_MS, AT_MS + 9)])
    book.append(sent(3, at_ms=AT_MS + 1000), others=[Heard("198.51.100.9", False, 1, 70, AT_MS + 20, AT_MS + 30)])
    assert book.heard() == [
        Heard("192.0.2.1", True, 5, 500, AT_MS, AT_MS + 1002),
        Heard("198.51.100.9", False, 6, 770, AT_MS, AT_MS + 30),
    ]
    book.close()


def test_what_was_lost_is_kept_with_time_and_cause(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    book.append([], drops=12, lost={"queue": 3})
    drops = book.dropped()
    assert [(drop.datagrams, drop.cause) for drop in drops] == [(12, "kernel"), (3, "queue")]
    assert all(drop.until_ms - drop.since_ms == 1000 for drop in drops)
    assert book.dropped(after=drops[0].id) == drops[1:]
    book.close()


def test_a_number_of_a_source_is_written_once(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    assert book.append(sent(1), once=Once("spool", 5))
    assert not book.append(sent(1), once=Once("spool", 5))
    assert not book.append(sent(1), once=Once("spool", 4))
    assert book.append(sent(1), once=Once("spool", 6))
    assert book.append(sent(1), once=Once("other", 1))
    assert (book.last_id(), book.written("spool"), book.written("none")) == (3, 6, 0)
    book.close()


def test_only_what_is_sealed_expires_by_age_and_by_size(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    for hour in range(10):
        book.append(sent(1, at_ms=AT_MS + hour * HOUR_MS))
    now_ms = AT_MS + 10 * HOUR_MS
    assert book.expire(5.5, 2**40, sealed_until=3, now_ms=now_ms) == 3
    assert book.expire(5.5, 2**40, sealed_until=10, now_ms=now_ms) == 2
    assert book.first_id() == 6
    assert book.expire(100, 0, sealed_until=8, now_ms=now_ms) == 3
    assert [row.id for row in book.read(0)] == [9, 10]
    assert book.expire(0, 0, sealed_until=10, now_ms=now_ms) == 2
    assert (book.first_id(), book.last_id()) == (None, 10)
    book.append(sent(1))
    assert book.first_id() == 11, "an id is never given twice"
    book.close()


def test_the_file_shrinks_once_much_of_it_is_free(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    noise = Path("/dev/urandom").open("rb")  # noqa: SIM115
    with noise:
        for _ in range(10):
            book.append([Datagram(AT_MS, "192.0.2.1", noise.read(60_000)) for _ in range(60)])
    full = book.used_bytes()
    assert full > 10 * 60 * 60_000
    book.expire(0, 0, sealed_until=book.last_id(), now_ms=AT_MS + 1)
    assert book.used_bytes() < full / 50
    with sqlite3.connect(book.path) as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.close()
    assert pages * 4096 < full * 0.6
    book.close()


def test_a_period_is_found_by_the_time_of_its_datagrams(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    for hour in range(5):
        book.append(sent(2, at_ms=AT_MS + hour * HOUR_MS))
    assert book.period(AT_MS + HOUR_MS, AT_MS + 3 * HOUR_MS) == (2, 3)
    assert book.period(AT_MS + 1, AT_MS + 2) == (1, 1)
    assert book.period(AT_MS + 2, AT_MS + HOUR_MS) is None
    book.close()


def test_readers_need_no_right_to_write(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME)
    book.append(sent(2), drops=1)
    reader = Journal(book.path, write=False)
    assert [row.datagrams for row in reader.read(0)] == [2]
    assert isinstance(reader.dropped()[0], Dropped)
    with pytest.raises(peewee.OperationalError, match="readonly"):
        reader.append(sent(1))
    book.append(sent(1))
    assert reader.last_id() == 2
    reader.close()
    book.close()


def test_a_journal_keeps_its_own_name_and_differs_from_others(tmp_path: Path) -> None:
    names = []
    for name in ("one", "two", "one"):
        book = Journal(tmp_path / name)
        names.append(book.name)
        book.close()
    assert names[0] == names[2] != names[1]
