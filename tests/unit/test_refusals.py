"""Refused logins on their way into the database: counted all, written few."""

import time

import pytest

from appliance.accounts import refusals, retention
from appliance.accounts.models import Refusal, core_db
from appliance.accounts.refusals import BURST, DOCTOR, MANY, Book, Refusals
from appliance.config import Privacy

NOW = 1_800_000_000


def wrong(name: str, nas: str = "hall", reason: str = "unknown") -> refusals.Refusal:
    return refusals.Refusal(name, "", nas, "", reason)


def test_the_same_again_is_one_row() -> None:
    book = Book()
    for _ in range(5):
        book.note(wrong("bob"))
    book.note(wrong("bob", nas="attic"))
    assert sorted((row.nas, times) for row, times in book.take(NOW)) == [("attic", 1), ("hall", 5)]
    assert book.take(NOW + 1) == []


def test_a_flood_writes_little_and_every_refusal_is_counted() -> None:
    book, rows, sent = Book(), [], 0
    for second in range(600):
        for number in range(1000):
            book.note(wrong(f"{second}-{number}", f"nas{number % 50}", "password" if number % 2 else "unknown"))
            sent += 1
        written = book.take(NOW + second)
        assert len(written) <= BURST + 21
        rows += written
    rows += book.take(NOW + 700)
    assert sum(times for _, times in rows) == sent
    assert len(rows) <= BURST + 700 + 21 * 12
    assert {row.name for row, _ in rows if row.name.startswith("599")} == {"599-0"}
    assert any(row.name == MANY for row, _ in rows)


def written(book: Refusals) -> list[tuple[str, int]]:
    book.stop()
    return [(row.name, row.times) for row in Refusal.select().order_by(Refusal.id)]


def test_what_waits_is_written_at_the_end(core: str) -> None:
    book = Refusals(core)
    book.note("bob" * 200, "bob", "hall", "aa:bb:cc:dd:ee:ff", "password")
    assert written(book) == [(("bob" * 200)[:253], 1)]


def test_the_doctor_is_no_refused_guest(core: str) -> None:
    book = Refusals(core)
    book.note(DOCTOR, "", "gateway", "", "unknown")
    book.note(DOCTOR, DOCTOR, "hall", "", "password")  # somebody has that name after all
    book.note(DOCTOR, DOCTOR, "hall", "", "password")
    assert written(book) == [(DOCTOR, 2)]


def test_old_rows_give_way(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST_ROWS", 3)
    book = Refusals(core)
    for name in "abcde":
        book.note(name, "", "hall", "", "unknown")
    assert [name for name, _ in written(book)] == ["c", "d", "e"]


@pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
def test_a_busy_database_loses_nothing(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_EVERY_S", 0.05)
    monkeypatch.setattr(refusals, "_BUSY_TIMEOUT_MS", 20)
    book = Refusals(core)
    with core_db.atomic():
        began = time.monotonic()
        book.note("bob", "", "hall", "", "unknown")
        assert time.monotonic() - began < 1
        time.sleep(0.3)
    time.sleep(0.2)
    assert written(book) == [("bob", 1)]


def test_they_are_kept_for_so_long(core: str) -> None:
    for at in (NOW - 31 * 86_400, NOW - 29 * 86_400):
        Refusal.create(at=at, name="bob", account="bob", nas="hall", mac="", reason="password", times=1)
    retention.run(Privacy(keep_refusals_days=30), NOW)
    assert [row.at for row in Refusal.select()] == [NOW - 29 * 86_400]
