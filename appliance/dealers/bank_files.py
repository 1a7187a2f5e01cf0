"""Statements of banks as files: ISO 20022 camt.053 in any of its versions, and tables (CSV). Untrusted bytes; pure."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from appliance.dealers import money, months
from appliance.errors import UserError

MOST_BYTES = 20_000_000
_TABLE = "a table needs the columns date, amount and reference, and may have currency, end_to_end and id"


class Movement(NamedTuple):
    """`amount_minor` is below zero for what left the account; `message_id` is that of a file of transfers.

    `text` is all that the payer wrote, `other` whom it went to or came from, `reference` the bank's own.
    """

    at: int
    amount_minor: int
    currency: str
    end_to_end: str = ""
    message_id: str = ""
    text: str = ""
    other: str = ""
    reference: str = ""
    source: str = ""


def read(content: bytes, zone: ZoneInfo, currency: str) -> tuple[str, list[Movement]]:
    """The account's IBAN, where the file says it, and its movements. Raises UserError."""
    if len(content) > MOST_BYTES:
        raise UserError(f"a statement of more than {MOST_BYTES // 1_000_000} MB isn't read: take a shorter time")
    if b"\0" in content[:1000]:  # UTF-16, in which a document type would look different
        raise UserError("the file isn't in UTF-8, or is no text: export it again as camt.053 or CSV in UTF-8")
    if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return _camt(content, zone)
    try:
        return "", list(_table(content, zone, currency))
    except csv.Error as error:
        raise UserError(f"the file can't be read as a table: {error}") from None


# camt.053 (ISO 20022); names without their namespace, which has the version in it


def _camt(content: bytes, zone: ZoneInfo) -> tuple[str, list[Movement]]:
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise UserError("that is no statement of a bank: it declares a document type")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"the file can't be read as XML: {error}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    statements = root.findall(".//Stmt")
    if not statements:
        raise UserError("there is no statement in it: ask the bank for camt.053")
    accounts = {_text(statement, "Acct/Id/IBAN").replace(" ", "").upper() for statement in statements}
    if len(accounts) > 1:
        raise UserError("the file has statements of several accounts: export the one that payouts leave")
    entries = [entry for statement in statements for entry in statement.findall("Ntry")]
    return accounts.pop(), [movement for entry in entries for movement in _entry(entry, zone)]


def _entry(entry: ElementTree.Element, zone: ZoneInfo) -> Iterator[Movement]:
    """One movement for each of its transactions, or for itself where they have no amounts."""
    status = _text(entry, "Sts/Cd") or _text(entry, "Sts")
    if status not in ("BOOK", ""):
        return  # expected or only informed of
    whole = _movement(entry, entry, zone)
    details = entry.findall("NtryDtls/TxDtls")
    if len(details) > 1 and all(_amount_of(detail) is not None for detail in details):
        yield from (_movement(detail, entry, zone) for detail in details)
    elif details:
        one = _movement(details[0], entry, zone)
        alone = len(details) == 1
        yield one._replace(amount_minor=whole.amount_minor, currency=whole.currency) if alone else whole
    else:
        yield whole


def _movement(part: ElementTree.Element, entry: ElementTree.Element, zone: ZoneInfo) -> Movement:
    amount = _amount_of(part)
    if amount is None:
        amount = entry.find("Amt")
    sign = -1 if (_text(part, "CdtDbtInd") or _text(entry, "CdtDbtInd")) == "DBIT" else 1
    if amount is None:
        raise UserError("an entry of the statement has no amount")
    currency = amount.get("Ccy", "")
    side = "Cdtr" if sign < 0 else "Dbtr"
    words = [*_texts(part, "RmtInf/Ustrd"), *_texts(part, "RmtInf/Strd/CdtrRefInf/Ref"), _text(part, "AddtlTxInf")]
    return Movement(
        at=_day(_text(entry, "BookgDt/Dt") or _text(entry, "BookgDt/DtTm")[:10], zone),
        amount_minor=sign * abs(money.parse_iso(amount.text or "", currency)),
        currency=currency,
        end_to_end=_known(_text(part, "Refs/EndToEndId")),
        message_id=next(filter(None, (_text(part, path) for path in _MESSAGES)), "") or _text(entry, _BATCH),
        text=" ".join(filter(None, words)),
        other=_text(part, f"RltdPties/{side}/Nm") or _text(part, f"RltdPties/{side}/Pty/Nm"),
        reference=_text(part, "Refs/AcctSvcrRef") or _text(entry, "AcctSvcrRef"),
    )


_BATCH = "NtryDtls/Btch/MsgId"
_MESSAGES = ("Refs/MsgId", "Refs/PmtInfId", "NtryDtls/Btch/MsgId", "NtryDtls/Btch/PmtInfId")


def _amount_of(part: ElementTree.Element) -> ElementTree.Element | None:
    """In the account's currency."""
    found = part.find("Amt")
    return found if found is not None else part.find("AmtDtls/TxAmt/Amt")


def _text(element: ElementTree.Element, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())


def _texts(element: ElementTree.Element, path: str) -> list[str]:
    return [" ".join((found.text or "").split()) for found in element.findall(path)]


def _known(end_to_end: str) -> str:
    return "" if end_to_end == "NOTPROVIDED" else end_to_end


def _day(text: str, zone: ZoneInfo) -> int:
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y"):
        try:
            return months.midnight(datetime.strptime(text, form).date(), zone)
        except ValueError:
            continue
    raise UserError(f"{text[:40]!r} is no day: write it as {date(2026, 11, 30)}")


# Tables


def _table(content: bytes, zone: ZoneInfo, currency: str) -> Iterator[Movement]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("the table can't be read: save it as CSV in UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    names = {re.sub(r"[ -]", "_", name.strip().lower()): name for name in reader.fieldnames or () if name}
    if not {"date", "amount", "reference"} <= set(names):
        raise UserError(_TABLE)
    for row in reader:
        cells = {key: " ".join((row.get(name) or "").split()) for key, name in names.items()}
        if any(cells.values()):
            yield _row(cells, reader.line_num, zone, currency)


def _row(cells: dict[str, str], number: int, zone: ZoneInfo, currency: str) -> Movement:
    own = cells.get("currency") or currency
    try:
        amount = money.parse(re.sub(r"\s", "", cells["amount"]).replace("\u2212", "-"), own)
        return Movement(
            at=_day(cells["date"], zone),
            amount_minor=amount,
            currency=own,
            end_to_end=cells.get("end_to_end", ""),
            text=cells["reference"],
            reference=cells.get("id", ""),
        )
    except UserError as error:
        raise UserError(f"line {number}: {error}") from None
