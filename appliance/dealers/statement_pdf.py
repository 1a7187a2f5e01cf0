"""A statement on pages, with its table inside, which `gatehouse dealer verify` reads."""

import time
from datetime import UTC, datetime
from typing import Any

from appliance.config import Config
from appliance.dealers import ledger, money, months, statement
from appliance.dealers.invoice_pdf import day
from appliance.dealers.invoices import seller_of
from appliance.dealers.paper import FAINT, LEFT, WIDTH, Attachment, Column, Paper
from appliance.errors import UserError

_COLUMNS = (
    *(Column("#", 12), Column("Date", 24), Column("What", 24)),
    *(Column("For", 75), Column("Amount", 35, "R")),
)


MOST = 4000  # postings: some ten seconds of work, and a hundred pages and more


def pdf(config: Config, dealer: Any, since: int, until: int) -> bytes:
    """Raises UserError for what nobody would read."""
    zone = config.site.timezone
    first, last = months.day(since, zone), months.day(until - 1, zone)
    part = statement.part_of(dealer, since, until)
    made_at = datetime.fromtimestamp(min(until, int(time.time())), UTC)
    paper = Paper(f"Statement {first} – {last}", f"Statement of {dealer.name} · {day(first)} – {day(last)}", made_at)
    paper.put("Statement", WIDTH, 20, bold=True)
    paper.put(f"{day(first)} – {day(last)}", WIDTH, 9, grey=FAINT)
    paper.set_y(paper.y + 6)
    seller = seller_of(dealer)
    paper.put(seller.name, WIDTH, 10.5, bold=True)
    for text in seller.address:
        paper.put(text, WIDTH)
    paper.set_y(paper.y + 6)
    sums, head = dict(part.sums), part.hash
    _balances(paper, "Before", sums)
    rows: list[tuple[str, ...]] = []
    for posting in part.postings:
        if len(rows) == MOST:
            raise UserError(
                f"more than {MOST} postings are too many for pages: take the table (CSV), or a shorter time"
            )
        statement.add(sums, posting.currency, ledger.entries_of(posting))
        head = posting.hash
        words = " · ".join(filter(None, (posting.rate, posting.note)))
        amount = money.text(posting.amount_minor, posting.currency)
        rows.append(
            (str(posting.n), day(months.day(posting.at, zone)), _KINDS.get(posting.kind, posting.kind), words, amount)
        )
    paper.rows(_COLUMNS, rows or [("", "", "", "Nothing was posted in this time.", "")], 8)
    paper.set_y(paper.y + 6)
    _balances(paper, "After", sums)
    _check(paper, head)
    table = statement.table(config, dealer, since, until)
    return paper.done(Attachment("statement.csv", table, "text/csv", "Data", "The same for `gatehouse dealer verify`"))


_KINDS = {"settle": "settled", "payout": "paid", "top-up": "credit bought", "vat": "VAT"}
_WORDS = {
    "accrued": "earned, not settled yet",
    "payable": "settled, not paid yet",
    "paid": "paid",
    "credit": "prepaid credit for vouchers",
    "hold": "set aside for vouchers",
}


def _balances(paper: Paper, label: str, sums: statement.Balances) -> None:
    shown = [(account, money.text(amount, currency)) for (currency, account), amount in sorted(sums.items()) if amount]
    paper.set_x(LEFT)
    paper.put(label, WIDTH, 9, bold=True)
    for account, amount in shown or [("", "")]:
        y = paper.y
        with paper.block(LEFT, y):
            paper.put(_WORDS.get(account, "nothing"), 60, 9, grey=FAINT)
        with paper.block(LEFT + 60, y):
            paper.put(amount or " ", 45, 9, align="R")
    paper.set_xy(LEFT, paper.y + 4)


def _check(paper: Paper, head: str) -> None:
    if not paper.room(18):
        paper.add_page()
    text = f"Every posting is chained to the one before it by SHA-256. The chain ends here with {head}."
    paper.put(text, WIDTH, 7.5, grey=FAINT)
    paper.put("statement.csv inside of this file has all that is needed to verify it.", WIDTH, 7.5, grey=FAINT)
