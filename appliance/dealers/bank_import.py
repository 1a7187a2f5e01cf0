"""What the bank says: statements as camt.053 or as a table (CSV), and which invoices they mark as paid.

A movement counts once, in however many files it stands: its own facts are its name.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from appliance.config import Config
from appliance.dealers import bank_files, invoices, money, months, payouts
from appliance.dealers.bank_files import Movement
from appliance.dealers.ledger_db import writing
from appliance.dealers.models import Invoice, InvoicePayment, Payout, PayoutLine
from appliance.errors import UserError

_FAILED = "it was marked failed, and the bank has made it"
_NEAR_S = 10 * 86_400  # between a movement and the same one as somebody recorded it
MATCHED, KNOWN, UNMATCHED, OTHER = "matched", "known", "unmatched", "other"
_WORDS = re.compile(r"[A-Za-z0-9]+-[0-9]{5,}")
_VARIABLE_SYMBOL = re.compile(r"\bVS[:/ ]*0*([0-9]{1,10})\b", re.I)


class Outcome(NamedTuple):
    """`OTHER` has nothing to do with dealers; `UNMATCHED` left the account, and nobody knows what for."""

    movement: Movement
    state: str
    invoice: str
    why: str


@dataclass(frozen=True)
class _Match:
    state: str
    why: str
    lines: tuple[Any, ...] = ()  # transfers of payouts that the bank has made
    returned: Any = None  # a transfer that came back
    invoice: Any = None  # one that was paid without a payout


def read(content: bytes, config: Config) -> list[Movement]:
    """Raises UserError for what is no statement, or one of another account."""
    account, found = bank_files.read(content, config.site.timezone, config.dealer.currency)
    own = config.dealer.iban.replace(" ", "").upper()
    if account and own and account != own:
        raise UserError(f"that is a statement of the account {account}; payouts leave {own} ([dealer] iban)")
    return list(_named(found))


def _named(found: Iterable[Movement]) -> Iterator[Movement]:
    """Two that are alike in all are two, as long as a day's movements stand in one file."""
    seen: Counter[Movement] = Counter()
    for movement in found:
        seen[movement] += 1
        digest = hashlib.sha256(repr((tuple(movement), seen[movement])).encode()).hexdigest()
        yield movement._replace(source=f"bank {digest[:40]}")


def look(config: Config, movements: Iterable[Movement]) -> list[Outcome]:
    """What `apply` would do, by the same code."""
    zone = config.site.timezone
    return [_outcome(movement, _match(movement, zone)) for movement in movements]


def apply(config: Config, movements: Iterable[Movement], who: str) -> list[Outcome]:
    """Each movement in a transaction of its own; a file that is read again changes nothing."""
    zone = config.site.timezone
    return [_outcome(movement, _applied(movement, zone, who)) for movement in movements]


def _outcome(movement: Movement, match: _Match) -> Outcome:
    rows = [line.invoice for line in match.lines] or [row for row in (match.invoice,) if row is not None]
    rows += [match.returned.invoice] if match.returned is not None else []
    return Outcome(movement, match.state, ", ".join(row.number for row in rows), match.why)


def _applied(movement: Movement, zone: ZoneInfo, who: str) -> _Match:
    with writing():
        match = _match(movement, zone)
        if match.state != MATCHED:
            return match
        try:
            _record(movement, match, who)
        except UserError as error:
            return _Match(UNMATCHED, str(error))
    return match


def _record(movement: Movement, match: _Match, who: str) -> None:
    at, reference, source = movement.at, movement.text[:140], movement.source
    if match.returned is not None:
        line = match.returned
        PayoutLine.update(state=payouts.FAILED, done_at=at).where(PayoutLine.id == line.id).execute()
        why = f"sent back by the bank {reference}".strip()
        invoices.pay(line.invoice, -movement.amount_minor, at, why, source=source, who=who, payout_line=None)
    elif match.invoice is not None:
        invoices.pay(match.invoice, -movement.amount_minor, at, reference, source=source, who=who)
    else:
        for n, line in enumerate(match.lines):
            payouts.settle_line(line, at, reference, f"{source}.{n}" if n else source, who)


# Which movement is which


def _match(movement: Movement, zone: ZoneInfo) -> _Match:
    if InvoicePayment.get_or_none(InvoicePayment.source == movement.source):
        return _Match(KNOWN, "it was read before")
    line = _line(movement.end_to_end)
    if movement.amount_minor > 0:
        return _came_in(movement, line)
    if line is not None:
        return _transfer(movement, line)
    return _whole_payout(movement) or _by_number(movement, zone)


def _line(end_to_end: str) -> Any:
    return PayoutLine.get_or_none(PayoutLine.end_to_end == end_to_end) if end_to_end else None


def _came_in(movement: Movement, line: Any) -> _Match:
    if line is None:
        return _Match(OTHER, "money that came in")
    if line.state != payouts.PAID or line.amount_minor != movement.amount_minor:
        return _Match(UNMATCHED, f"it names the transfer {line.end_to_end}, which wasn't made with that amount")
    return _Match(MATCHED, f"the transfer to {line.name} came back: it is to be paid again", returned=line)


def _transfer(movement: Movement, line: Any) -> _Match:
    if line.payout.currency != movement.currency or line.amount_minor != -movement.amount_minor:
        shown = money.text(line.amount_minor, line.payout.currency)
        return _Match(UNMATCHED, f"it names the transfer {line.end_to_end}, which is of {shown}")
    if _never_made(line):
        return _Match(UNMATCHED, f"it names the transfer {line.end_to_end}: {_FAILED}")
    if line.state != payouts.SENT:
        return _Match(KNOWN, f"the transfer {line.end_to_end} was marked {line.state} before")
    return _Match(MATCHED, f"the transfer {line.end_to_end} to {line.name}", (line,))


def _never_made(line: Any) -> bool:
    """Marked failed; one that was made and came back has its payment."""
    return line.state == payouts.FAILED and InvoicePayment.get_or_none(InvoicePayment.payout_line == line) is None


def _whole_payout(movement: Movement) -> _Match | None:
    """Banks may book a file of transfers as one movement."""
    payout = Payout.get_or_none(Payout.message_id == movement.message_id) if movement.message_id else None
    if payout is None:
        return None
    every = payouts.lines_of(payout)
    lines = tuple(line for line in every if line.state == payouts.SENT)
    if not lines:
        made = [line for line in every if not _never_made(line)]
        if len(made) < len(every) and sum(line.amount_minor for line in made) != -movement.amount_minor:
            return _Match(UNMATCHED, f"it names payout {payout.message_id}: {_FAILED}")
        return _Match(KNOWN, f"payout {payout.message_id} was marked before")
    total = sum(line.amount_minor for line in lines)
    if payout.currency != movement.currency or total != -movement.amount_minor:
        shown = money.text(total, payout.currency)
        return _Match(UNMATCHED, f"it names payout {payout.message_id}, of which {shown} are on their way")
    return _Match(MATCHED, f"all of payout {payout.message_id}", lines)


def _by_number(movement: Movement, zone: ZoneInfo) -> _Match:
    found = _named_invoices(movement)
    if not found:
        return _Match(UNMATCHED, "it names no invoice")
    if len(found) > 1:
        return _Match(UNMATCHED, f"it names several invoices: {', '.join(row.number for row in found)}")
    (row,) = found
    if row.currency != movement.currency:
        return _Match(UNMATCHED, f"it names {row.number}, which is in {row.currency}")
    if (at := _recorded_by_hand(row, movement)) is not None:
        day = months.day(at, zone)
        return _Match(UNMATCHED, f"it names {row.number}, and may be the one recorded by hand on {day}")
    sent = PayoutLine.get_or_none((PayoutLine.invoice == row) & (PayoutLine.state == payouts.SENT))
    if sent is not None:
        return replace(_transfer(movement, sent), why=f"it names {row.number}, which is in a payout")
    rest = row.total_minor - invoices.paid_minor(row)
    if row.cancelled_at is not None or row.kind != invoices.INVOICE or -movement.amount_minor > rest:
        return _Match(UNMATCHED, f"it names {row.number}, of which {money.text(rest, row.currency)} remains to be paid")
    return _Match(MATCHED, f"it names {row.number}", invoice=row)


def _recorded_by_hand(row: Any, movement: Movement) -> int | None:
    """When a payment of that amount was made that somebody recorded and nobody took back, some days around it."""
    near = InvoicePayment.at.between(movement.at - _NEAR_S, movement.at + _NEAR_S)
    own = (InvoicePayment.invoice == row) & InvoicePayment.source.startswith(invoices.BY_HAND)
    made = InvoicePayment.amount_minor == -movement.amount_minor
    found: list[Any] = list(InvoicePayment.select().where(own & made & near).order_by(InvoicePayment.at))
    back = InvoicePayment.select().where(own & (InvoicePayment.amount_minor == movement.amount_minor)).count()
    return int(found[back].at) if len(found) > back else None


def _named_invoices(movement: Movement) -> list[Any]:
    """By numbers in the text, or by a variable symbol."""
    text = f"{movement.end_to_end} {movement.text}"
    numbers = {word.upper() for word in _WORDS.findall(text)}
    symbols = set(_VARIABLE_SYMBOL.findall(text))
    found = list(Invoice.select().where(Invoice.number.in_(numbers)).order_by(Invoice.id)) if numbers else []
    if found or not symbols:
        return found
    serials = {int(symbol[-5:]) for symbol in symbols}
    near: list[Any] = list(Invoice.select().where(Invoice.serial.in_(serials) & (Invoice.kind == invoices.INVOICE)))
    return [row for row in near if re.sub(r"[^0-9]", "", row.number)[-10:].lstrip("0") in symbols]
