"""A dealer's statement: every posting of a time, in the chain of hashes, so that anybody can verify it without us.

Each line of the table has the posting as it was hashed (`record`): SHA-256 over the hash before it and that text is its
`hash` (ledger.digest). Whoever keeps a statement can hold every later one against it.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from appliance.config import Config
from appliance.dealers import ledger, money
from appliance.dealers.ledger_db import ledger_sql
from appliance.dealers.models import Posting
from appliance.errors import UserError
from appliance.tables import harmless

COLUMNS = ("number", "date", "what", "currency", "amount", "rate", "note", "record", "hash")
OPENING, CLOSING = "opening balance", "closing balance"

Balances = dict[tuple[str, str], int]  # by currency and account, the dealer's own ones


def table(config: Config, dealer: Any, since: int, until: int) -> bytes:
    """CSV; `gatehouse dealer verify` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(config.site.timezone, dealer, since, until))
    return text.getvalue().encode()


def _rows(zone: ZoneInfo, dealer: Any, since: int, until: int) -> Iterator[tuple[str, ...]]:
    part = part_of(dealer, since, until)
    sums, last = dict(part.sums), (part.before, part.hash)
    yield _balance(OPENING, part.before, sums, part.hash)
    for posting in part.postings:
        record = ledger.record(posting, ledger.entries_of(posting))
        last = (posting.n, posting.hash)
        add(sums, record["currency"], record["entries"])
        yield (*shown(record, zone), _text(record), posting.hash)
    yield _balance(CLOSING, last[0], sums, last[1])


class Part(NamedTuple):
    """Of a dealer's chain: what was before it (number, hash, balances), and its postings."""

    before: int
    hash: str
    sums: Balances
    postings: Iterable[Any]


def part_of(dealer: Any, since: int, until: int) -> Part:
    """What was recorded in that half-open time: all from the first that was, even if the clock was once set back."""
    first, end = first_number(dealer, since), first_number(dealer, until)
    end = max(first, end)
    text = "SELECT hash FROM posting WHERE dealer_id = ? AND n = ?"
    row = ledger_sql(text, (dealer.id, first - 1)).fetchone()
    found = ledger_sql(
        "SELECT p.currency, e.account, CAST(sum(e.amount_minor) AS BIGINT) FROM posting p"
        " JOIN entry e ON e.posting_id = p.id WHERE p.dealer_id = ? AND p.n < ? GROUP BY p.currency, e.account",
        (dealer.id, first),
    ).fetchall()
    sums = {(currency, account): total for currency, account, total in found if account in ledger.OWN}
    query = Posting.select().where((Posting.dealer == dealer) & (Posting.n >= first) & (Posting.n < end))
    return Part(first - 1, row[0] if row else ledger.START, sums, query.order_by(Posting.n).iterator())


def first_number(dealer: Any, since: int) -> int:
    """Number of the first posting that was recorded then or later; the next one's where none was."""
    text = "SELECT min(n) FROM posting WHERE dealer_id = ? AND recorded_at >= ?"
    (number,) = ledger_sql(text, (dealer.id, since)).fetchone()
    return int(number or ledger.last(dealer.id)[0] + 1)


def _balance(what: str, number: int, sums: Balances, hashed: str) -> tuple[str, ...]:
    own = {f"{currency} {account}": amount for (currency, account), amount in sorted(sums.items())}
    return str(number), "", what, "", "", "", "", _text(own), hashed


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def add(sums: Balances, currency: str, entries: Mapping[str, int]) -> None:
    for account, amount in entries.items():
        if account in ledger.OWN:
            sums[currency, account] = sums.get((currency, account), 0) + amount


def shown(record: Mapping[str, Any], zone: ZoneInfo) -> tuple[str, ...]:
    """What people read of a posting: the first columns."""
    amount = money.plain(record["amount_minor"], record["currency"])
    day = f"{datetime.fromtimestamp(record['at'], zone):%Y-%m-%d %H:%M%z}"
    words = (record["rate"], record["note"])
    return (str(record["n"]), day, record["kind"], record["currency"], amount, *(str(harmless(word)) for word in words))


# Verifying, with nothing but the file


def verify(content: bytes) -> Iterator[str]:
    """What is wrong with a statement; nothing when it is as it was made. Raises UserError for what is none."""
    lines = _read(content)
    yield from _opening(lines[0])
    previous, number = lines[0]["hash"], int(lines[0]["number"])
    sums = _balances(lines[0])
    for line in lines[1:-1]:
        record = _record(line)
        where = f"posting {line['number']}"
        number += 1
        if record.get("n") != number:
            yield f"{where}: posting {number} should stand here"
            number = int(line["number"])
        if ledger.digest(previous, record) != line["hash"]:
            yield f"{where}: its hash isn't that of its record and the hash before"
        elif sum(record["entries"].values()):
            yield f"{where}: its entries don't sum to zero"
        else:
            yield from _reads_as(line, record)
            add(sums, record["currency"], record["entries"])
        previous = line["hash"]
    if _balances(lines[-1]) != sums or lines[-1]["hash"] != previous or int(lines[-1]["number"]) != number:
        yield "the closing balance isn't what the postings sum up to"


def _read(content: bytes) -> list[dict[str, str]]:
    try:
        lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        is_one = len(lines) >= 2 and all(set(line) == set(COLUMNS) and None not in line.values() for line in lines)
        if is_one and (lines[0]["what"], lines[-1]["what"]) == (OPENING, CLOSING) and _is_whole(lines):
            return lines
    except (UnicodeDecodeError, csv.Error):
        pass
    raise UserError("that is no statement: it begins with the opening balance and ends with the closing one")


def _is_whole(lines: list[dict[str, str]]) -> bool:
    try:
        records = [json.loads(line["record"]) for line in lines if int(line["number"]) >= 0]
    except (ValueError, RecursionError):
        return False
    is_one = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    return is_one and all(_is_amount(amount) for end in (0, -1) for amount in records[end].values())


def _opening(line: dict[str, str]) -> Iterator[str]:
    if line["number"] == "0" and (line["hash"] != ledger.START or any(_balances(line).values())):
        yield "the opening balance: nothing is before the first posting"


def _balances(line: dict[str, str]) -> Balances:
    found: Balances = {}
    for key, amount in json.loads(line["record"]).items():
        currency, _, account = key.partition(" ")
        found[currency, account] = amount
    return found


def _record(line: dict[str, str]) -> dict[str, Any]:
    """With all that the ledger's have, whatever they are."""
    record: dict[str, Any] = json.loads(line["record"])
    names = {"dealer" if name == "dealer_id" else name for name in ledger.FIELDS} | {"entries"}
    if set(record) != names or not _has_types(record):
        raise UserError(f"posting {line['number']}: its record isn't one of the ledger's")
    return record


_NUMBERS = ("dealer", "n", "scheme_version", "amount_minor", "at", "due_at", "base_minor", "volume_minor",
            "whole_minor", "recorded_at")  # fmt: skip
_LAST = 253_402_214_400  # the last day that has a date (UTC s)


def _has_types(record: Mapping[str, Any]) -> bool:
    """Those of the ledger's, and a time that can be shown; all other values are text that can be hashed."""
    entries, words = record["entries"], [record[name] for name in record if name not in (*_NUMBERS, "entries")]
    if not isinstance(entries, dict) or not all(isinstance(word, str) for word in words):
        return False
    numbers = [*(record[name] for name in _NUMBERS), *entries.values()]
    return all(map(_is_amount, numbers)) and 0 <= record["at"] < _LAST and _is_unicode(record)


def _is_amount(value: object) -> bool:
    """A whole number, as the ledger can hold it."""
    return type(value) is int and abs(value) < 2**63


def _is_unicode(record: Mapping[str, Any]) -> bool:
    """Half a character of UTF-16 (`"\\ud800"`) can be in JSON and in no hash."""
    try:
        _text(record).encode()
    except UnicodeEncodeError:
        return False
    return True


def _reads_as(line: dict[str, str], record: Mapping[str, Any]) -> Iterator[str]:
    """The columns that people read say the same as the record."""
    at = _moment(line["date"])
    expected = shown(record, ZoneInfo("UTC"))
    read = tuple(line[column] for column in COLUMNS[: len(expected)])
    if at != record["at"] - record["at"] % 60 or read[:1] + read[2:] != expected[:1] + expected[2:]:
        yield f"posting {line['number']}: what it shows isn't what its record says"


def _moment(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d %H:%M%z").timestamp())
    except ValueError:
        return None
