"""Vouchers: accounts whose name is a code and whose password is the same code."""

import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import peewee

from appliance.accounts import manage, unfinished
from appliance.accounts.models import Account, AccountUsage, Plan, VoucherBatch, core_db
from appliance.accounts.pieces import delete_accounts, execute, in_pieces, marks
from appliance.accounts.terms import ALPHABET as ALPHABET
from appliance.accounts.terms import voucher_code
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import Conflict, UserError
from appliance.island import signing
from appliance.island.signing import Where

LENGTH = 12
# With 20,000 vouchers out and 100 guesses a second, the first hit on codes of 40 bits takes a week of guessing
# around the clock (the portal lets nobody guess so fast); on codes of 12 characters (57 bits) it takes 3,000 years.
MIN_BITS = 40
MAX_LENGTH = 32
MAX_COUNT = 100_000

FORMATS = ("a4", "58mm", "80mm")  # cards to cut, and slips of receipt printers
STATES = ("unused", "active", "used up", "lapsed", "revoked")

_WITHOUT_CENTS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"  # ISO 4217
_IN_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"


@dataclass(frozen=True)
class Order:
    """What was asked for; `price_minor` counts cents (ISO 4217), `length` is without the prefix.

    Codes of `offline` vouchers are as they are signed, whatever prefix and length are.
    """

    batch: str
    plan: str
    count: int
    prefix: str = ""
    length: int = LENGTH
    price_minor: int = 0
    currency: str = ""
    unused_until: int | None = None
    offline: Where | None = None

    def __post_init__(self) -> None:
        manage.name(self.batch, "batch")
        if not 1 <= self.count <= MAX_COUNT:
            raise UserError(f"{self.count} is no number of vouchers: write 1 to {MAX_COUNT}")
        if not re.fullmatch(r"[a-z0-9]{0,12}", self.prefix):
            raise UserError(f"{self.prefix!r} can't be a prefix: use up to 12 lower-case letters and digits")
        shortest = math.ceil(MIN_BITS / math.log2(len(ALPHABET)))
        if not shortest <= self.length <= MAX_LENGTH:
            raise UserError(
                f"{self.length} characters can't be a voucher's length: write {shortest} to {MAX_LENGTH};"
                f" shorter codes could be guessed"
            )


def parse_price(text: str, currency: str) -> int:
    """Minor units of `5.00`; raises UserError for what isn't an amount of that currency."""
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise UserError(f"{currency!r} is no currency: write its three letters, such as EUR")
    digits = minor_digits(currency)
    match = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?", text)
    if not match or len(match[2] or "") > digits:
        raise UserError(f"{text!r} is no price in {currency}: write {'5.' + '0' * digits if digits else '5'}")
    return int(match[1] + (match[2] or "").ljust(digits, "0"))


def minor_digits(currency: str) -> int:
    """How many digits an amount has behind its point."""
    return 0 if currency in _WITHOUT_CENTS else 3 if currency in _IN_THOUSANDTHS else 2


def format_price(minor: int, currency: str) -> str:
    if not minor:
        return ""
    digits = minor_digits(currency)
    whole, part = divmod(minor, 10**digits)
    return f"{whole}{'.' + str(part).zfill(digits) if digits else ''} {currency}"


def parse_last_day(text: str, config: Config) -> int:
    """The end of that day on the site's calendar, in UTC seconds: what is printed on paper is meant inclusive."""
    try:
        next_day = date.fromisoformat(text) + timedelta(days=1)
        until = int(datetime(next_day.year, next_day.month, next_day.day, tzinfo=config.site.timezone).timestamp())
    except (ValueError, OverflowError):
        raise UserError(f"{text!r} is no day: write one such as 2027-01-31") from None
    if until <= time.time():
        raise UserError(f"{text} is over: write a day to come")
    return until


def last_day(unused_until: int | None, config: Config) -> str:
    """The day that `parse_last_day` was given."""
    return "" if unused_until is None else f"{datetime.fromtimestamp(unused_until - 1, config.site.timezone):%Y-%m-%d}"


def grouped(code: str) -> str:
    """In fours, as it is read out and typed."""
    return " ".join(code[i : i + 4] for i in range(0, len(code), 4))


def login_url(config: Config, code: str) -> str:
    """Where a phone that reads the QR code logs in: the guest's page (Config.portal_url) with the code.

    By address without TLS: it is reached even by a phone that asks other name servers than ours. Where there are only
    routers, whose pages have an address each, it is the code itself, to be pasted.
    """
    if not config.gateway.enabled:
        return code
    secure = config.portal.certificate is not None
    home = f"https://{config.portal.hostname}/" if secure else f"http://{config.gateway.address.ip}/"
    return f"{home}?code={code}"


# Making


def check(order: Order) -> Any:
    """The order's plan; raises UserError for what couldn't be made."""
    if VoucherBatch.get_or_none(VoucherBatch.name == order.batch):
        raise Conflict(_exists(order.batch))
    return manage.get(Plan, order.plan, "plan")


def make(
    order: Order,
    box: SecretBox,
    noted: Callable[[], None] = lambda: None,
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Writes the batch; whatever goes wrong, nothing of it stays. `noted` is done as it appears, or not at all.

    `beside` is the transaction of another database that `noted` writes: it is begun before this one, as it may have to
    wait for others, and committed before it.
    """
    unfinished.sweep()
    plan = check(order)
    batch = unfinished.begin(order.batch, plan)
    try:
        for piece in in_pieces(_codes(order, batch, plan, box)):
            _write(_rows(piece, batch, plan, box), order, box)
            unfinished.still_here([batch])
        with ExitStack() as other:
            other.enter_context(beside())
            with core_db.atomic():
                _complete(batch, order)
                noted()
                other.close()
    except BaseException:
        unfinished.remove(batch)
        raise


def _exists(batch: str) -> str:
    return f"batch {batch!r} exists already: take another name, see `gatehouse voucher list`"


def _codes(order: Order, batch: Any, plan: Any, box: SecretBox) -> Iterator[str]:
    if order.offline is not None:
        yield from signing.codes(order.offline, plan.id, batch.id, order.count, box)
        return
    made: set[str] = set()
    while len(made) < order.count:
        code = new_code(order)
        if code not in made:
            made.add(code)
            yield code


def new_code(order: Order) -> str:
    return order.prefix + "".join(secrets.choice(ALPHABET) for _ in range(order.length))


def _rows(codes: list[str], batch: Any, plan: Any, box: SecretBox) -> list[dict[str, Any]]:
    now = int(time.time())
    return [
        {"name": code, "password": box.seal(code), "plan": plan, "batch": batch, "created_at": now, "changed_at": now}
        for code in codes
    ]


def _write(rows: list[dict[str, Any]], order: Order, box: SecretBox) -> None:
    """A code that somebody has already is made anew."""
    while True:
        try:
            Account.insert_many(rows).execute()
            return
        except peewee.IntegrityError:
            names = [row["name"] for row in rows]
            found = execute(f"SELECT name FROM account WHERE name IN ({marks(names)})", *names)
            taken = {row[0] for row in found.fetchall()}
            if not taken:
                raise UserError("the plan or the batch was removed in between: nothing was made") from None
            if order.offline is not None:
                raise Conflict(f"there is an account {min(taken)!r} already: make the batch again") from None
            for row in rows:
                if row["name"] in taken:
                    row["name"] = new_code(order)
                    row["password"] = box.seal(row["name"])


def _complete(batch: Any, order: Order) -> None:
    values = {
        "name": order.batch,
        "price_minor": order.price_minor,
        "currency": order.currency,
        "unused_until": order.unused_until,
    }
    try:
        unfinished.finish({batch: values})
    except peewee.IntegrityError:
        raise Conflict(_exists(order.batch)) from None


# Looking


def state(now: int) -> Any:
    """The word for what became of a voucher, for queries over Account, VoucherBatch and Plan."""
    new = Account.first_login_at.is_null()
    late = (VoucherBatch.unused_until <= now) | (Account.valid_until <= now)
    used = peewee.fn.sum(AccountUsage.input_octets + AccountUsage.output_octets)
    cuts = (Plan.quota_period == "total") & (Plan.slow_down_bps == 0) & (Plan.slow_up_bps == 0)
    all_used = Plan.quota_bytes <= AccountUsage.select(used).where(AccountUsage.account == Account.id)
    over = (Account.valid_until <= now) | (Account.first_login_at + Plan.validity_s <= now) | (cuts & all_used)
    words = ((~Account.enabled, "revoked"), (new & late, "lapsed"), (new, "unused"), (over, "used up"))
    return peewee.Case(None, words, "active")


def select(*columns: Any) -> Any:
    """Vouchers with their batches and plans; those of a batch that isn't complete too."""
    return Account.select(*columns).join(VoucherBatch).switch(Account).join(Plan)


def complete() -> Any:
    return ~(VoucherBatch.name.startswith(unfinished.HIDDEN) | VoucherBatch.name.startswith(unfinished.SETTLING))


def batches() -> list[Any]:
    return list(VoucherBatch.select(VoucherBatch, Plan).join(Plan).where(complete()).order_by(VoucherBatch.name))


def summary(now: int, ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Of these batches, without a look at what each voucher has used: quick for a million of them."""
    new = Account.first_login_at.is_null() & Account.enabled
    over = (VoucherBatch.unused_until <= now) | (Account.valid_until <= now)
    asked = {
        "made": Account.id.is_null(False),
        "used": Account.first_login_at.is_null(False) & Account.enabled,
        "lapsed": new & over,
        "new": new,
        "revoked": ~Account.enabled,
    }
    sums = [peewee.fn.sum(peewee.Case(None, ((when, 1),), 0)) for when in asked.values()]
    query: Any = Account.select(Account.batch, *sums).join(VoucherBatch).where(Account.batch.in_(list(ids)))
    found = {row[0]: dict(zip(asked, row[1:], strict=True)) for row in query.group_by(Account.batch).tuples()}
    return {batch: {**of, "unused": of["new"] - of["lapsed"]} for batch, of in found.items()}


def counts(now: int, ids: Sequence[int] | None = None) -> dict[int, dict[str, int]]:
    """By batch and state, of all batches or of these."""
    word = state(now)
    query = select(Account.batch, word, peewee.fn.count(Account.id)).group_by(Account.batch, word)
    if ids is not None:
        query = query.where(Account.batch.in_(list(ids)))
    found: dict[int, dict[str, int]] = {}
    for batch, in_state, count in query.tuples():
        found.setdefault(batch, dict.fromkeys(STATES, 0))[in_state] = count
    return found


def codes(batch: Any, now: int) -> list[tuple[str, str, int | None]]:
    """Code, state and first login (UTC seconds) of each voucher, in the order in which they are printed."""
    query = select(Account.name, state(now), Account.first_login_at).where(Account.batch == batch)
    return list(query.order_by(Account.id).tuples())


def unused(batch: Any, now: int) -> list[str]:
    """The codes that are worth printing; raises UserError where there are none."""
    found = [code for code, in_state, _ in codes(batch, now) if in_state == "unused"]
    if not found:
        raise UserError(f"batch {batch.name!r} has no unused vouchers: nothing to print")
    return found


def find(text: str) -> Any:
    """A voucher by its code in any spelling; raises UserError."""
    row: Any = Account.get_or_none((Account.name == voucher_code(text)) & Account.batch.is_null(False))
    if row is None or str(row.batch.name).startswith((unfinished.HIDDEN, unfinished.SETTLING)):
        raise UserError(f"there is no voucher {text!r}: see `gatehouse voucher list`")
    return row


def get_batch(name: str) -> Any:
    batch = VoucherBatch.get_or_none(VoucherBatch.name == name)
    if batch is None:
        raise UserError(f"there is no voucher batch {name!r}: see `gatehouse voucher list`")
    return batch


def revoke(name: str) -> tuple[int, str]:
    """How many can't log in any more, and what they are called; raises UserError when there is none of that name."""
    now = int(time.time())
    batch = VoucherBatch.get_or_none(VoucherBatch.name == name)
    if batch is None:
        code = voucher_code(name)
        done = execute(
            "UPDATE account SET enabled = ?, changed_at = ? WHERE name = ? AND batch_id IS NOT NULL", False, now, code
        )
        if not done.rowcount:
            raise UserError(f"there is no batch and no voucher {name!r}: see `gatehouse voucher list`")
        return 1, f"voucher {code}"
    ids = [row.id for row in Account.select(Account.id).where(Account.batch == batch, Account.enabled)]
    for piece in in_pieces(ids):
        changes = (False, int(time.time()))
        execute(f"UPDATE account SET enabled = ?, changed_at = ? WHERE id IN ({marks(piece)})", *changes, *piece)
    return len(ids), f"batch {name}"


def remove(name: str) -> tuple[int, int]:
    """How many vouchers of the batch were removed as nobody has used them, and how many stay. An empty batch goes."""
    batch = get_batch(name)
    removed = delete_accounts("batch_id = ? AND first_login_at IS NULL", batch.id)
    stay = int(Account.select().where(Account.batch == batch).count())
    if not stay:
        execute("DELETE FROM voucher_batch WHERE id = ?", batch.id)
    return removed, stay


def extend(name: str, until: int | None) -> int:
    """Another last day for a first login (UTC seconds), None for no such day; how many vouchers that concerns."""
    batch = get_batch(name)
    VoucherBatch.update(unused_until=until).where(VoucherBatch.id == batch.id).execute()
    return int(Account.select().where(Account.batch == batch, Account.first_login_at.is_null()).count())
