"""A table of accounts as spreadsheets save it: read line by line, each with its own complaint."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from appliance.accounts import manage, wording
from appliance.accounts.imports import Found, FoundAccount, settle_clashes
from appliance.config import Config
from appliance.crypto import new_password
from appliance.errors import UserError

COLUMNS = ("name", "password", "plan", "valid_until", "address", "enabled")
MOST_LINES = 10_000
_YES, _NO = ("yes", "true", "1", "may log in", ""), ("no", "false", "0", "blocked")
_FORMULA = ("'=", "'+", "'-", "'@")  # how a name is exported that a spreadsheet would take for a formula


@dataclass
class Table:
    """What a file holds; `lines` are numbers of lines by name, `made_up` the names that get a password from us.

    `errors` are (line, what is wrong) and `notes` what comes a little different.
    """

    found: Found
    ignored: list[str]
    lines: dict[str, int] = field(default_factory=dict)
    made_up: list[str] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)


def read(content: bytes, plan: str, config: Config) -> Table:
    """`plan` is for lines that name none. Raises UserError for what is no such table at all."""
    reader, header = opened(content)
    if "name" not in header:
        raise UserError(f"the first line has to name the columns, one of them “name”; there are: {', '.join(COLUMNS)}")
    reader.fieldnames = header
    table = Table(Found(), [name for name in header if name not in COLUMNS])
    try:
        for row in reader:
            _take(row, reader.line_num, plan, table, config)
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} can’t be read: {error}") from None
    if not table.lines and not table.errors:
        raise UserError("there is no line below the columns’ names")
    _settle(table)
    return table


def opened(content: bytes) -> "tuple[csv.DictReader[str], list[str]]":
    """With its columns' names, in small letters. Raises UserError."""
    text = text_of(content)
    reader = csv.DictReader(io.StringIO(text), dialect=dialect_of(text), restkey="", restval="")
    try:
        return reader, [name.strip().lower() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise UserError(f"the first line can’t be read: {error}") from None


def text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("that isn’t UTF-8 text: save the table as “CSV UTF-8”") from None


def dialect_of(text: str) -> type[csv.Dialect]:
    first = text.partition("\n")[0]

    class Found(csv.excel):
        delimiter = max(",;\t", key=first.count)
        strict = True

    return Found


def _take(row: Mapping[str, str], line: int, plan: str, table: Table, config: Config) -> None:
    if len(table.lines) + len(table.errors) >= MOST_LINES:
        raise UserError(f"more than {MOST_LINES:,} lines: cut the table into several files")
    try:
        account = _account(row, plan, config)
        if account.name in table.lines:
            raise UserError(f"{account.name!r} stands in line {table.lines[account.name]} already")
    except UserError as error:
        table.errors.append((line, str(error)))
        return
    table.lines[account.name] = line
    if not account.password:
        account.password = new_password()
        table.made_up.append(account.name)
    table.found.accounts[account.name] = account


def _account(row: Mapping[str, str], plan: str, config: Config) -> FoundAccount:
    name = row["name"].strip()
    name = manage.account_name(name[1:] if name.startswith(_FORMULA) else name)
    password = row.get("password", "")
    enabled = row.get("enabled", "").strip().lower()
    if enabled not in (*_YES, *_NO):
        raise UserError(f"{enabled!r} under “enabled” is neither yes nor no")
    values = {
        "valid_until": _until(row.get("valid_until", "").strip(), config),
        "address": wording.address(row.get("address", "").strip()),
        "enabled": enabled in _YES,
    }
    return FoundAccount(
        name, manage.password(password) if password else "", row.get("plan", "").strip() or plan, values
    )


def _until(text: str, config: Config) -> int | None:
    """A time of the site's clock, or the seconds of an export."""
    return int(text) if text.isdecimal() and 8 < len(text) < 13 else wording.local_time(text, config)


def _settle(table: Table) -> None:
    """What can't be here, or is here already, by its line."""
    settle_clashes(table.found)
    for into, groups in ((table.errors, table.found.left_out), (table.notes, table.found.changed)):
        into.extend((table.lines.get(name, 0), f"{name!r}: {why}") for why, names in groups.items() for name in names)
    table.errors.sort()
    table.notes.sort()
    table.made_up = [name for name in table.made_up if name in table.found.accounts]


def passwords(table: Table) -> Iterator[tuple[str, str]]:
    """Those that were made up."""
    yield from ((name, table.found.accounts[name].password) for name in table.made_up)
