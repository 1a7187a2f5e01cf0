"""`gatehouse sales`: the register of what was sold and paid, by hand or out of a table."""

import argparse
import time
from pathlib import Path
from typing import Any

from appliance.accounts import manage, sales, sales_import
from appliance.accounts.models import Account, Charge, Payment, Plan, core_db
from appliance.config import Config
from appliance.dealers import desk, money
from appliance.errors import UserError
from appliance.tables import show

_MOST = 1000


def add_parser(commands: Any) -> None:
    verbs = commands.add_parser("sales", help="what was sold, and what was paid for it").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    words = verbs.add_parser("list", help="the newest sales, with what is open")
    words.add_argument("--account", default="")
    words.add_argument("--open", action="store_true", help="only those that aren't paid to the end")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=desk.plainly()(_list))
    words = verbs.add_parser("add", help="record a sale that the appliance hasn't seen itself; prints its number")
    words.add_argument("account")
    words.add_argument("--plan", default="", help="the account's by default")
    words.add_argument("--kind", choices=(sales.ACTIVATION, sales.RENEWAL), default=sales.RENEWAL)
    words.add_argument("--amount", default="", help="the plan's price by default")
    words.add_argument("--day", default="")
    words.add_argument("--paid", action="store_true", help="with the money for it")
    words.add_argument("--reference", default="")
    words.set_defaults(run=desk.plainly()(_add))
    words = verbs.add_parser("pay", help="record money for a sale, or a part of it; prints the payment's number")
    words.add_argument("number", type=int)
    words.add_argument("amount", nargs="?", default="", help="all that is open by default")
    words.add_argument("--day", default="")
    words.add_argument("--method", default="")
    words.add_argument("--reference", default="")
    words.set_defaults(run=desk.plainly()(_pay))
    words = verbs.add_parser("refund", help="record that a payment, or a part of it, was given back")
    words.add_argument("payment", type=int)
    words.add_argument("amount")
    words.add_argument("--reference", default="")
    words.set_defaults(run=desk.plainly()(_refund))
    words = verbs.add_parser("cancel", help="nobody is to pay for a sale any more")
    words.add_argument("number", type=int)
    words.set_defaults(run=desk.plainly()(_cancel))
    words = verbs.add_parser("import", help="sales and payments out of a CSV table, each line once")
    words.add_argument("file", type=Path)
    words.add_argument("--preview", action="store_true", help="only say what would be recorded")
    words.set_defaults(run=desk.plainly()(_import))


def _list(args: argparse.Namespace, config: Config) -> str:
    query = Charge.select().order_by(Charge.at.desc(), Charge.id.desc()).limit(_MOST)
    if args.account:
        query = query.where(Charge.account == args.account)
    rows = []
    for row in list(query):
        rest = sales.open_minor(row)
        if args.open and not rest:
            continue
        paid = sales.paid_minor(row)
        rows.append(
            {
                "number": row.id,
                "day": desk.day(row.at, config.site.timezone),
                "kind": row.kind,
                "account": row.account,
                "plan": row.plan,
                "amount": money.plain(row.amount_minor, row.currency),
                "paid": money.plain(paid, row.currency),
                "open": money.plain(rest, row.currency),
                "currency": row.currency,
                "source": row.source,
            }
        )
    columns = ("number", "day", "kind", "account", "plan", "amount", "paid", "open", "currency")
    return show(rows, columns, args.json)


def _at(text: str, config: Config) -> int:
    return desk.come(text, config.site.timezone, int(time.time()))


def _add(args: argparse.Namespace, config: Config) -> str:
    account = manage.get(Account, args.account, "account")
    plan = manage.get(Plan, args.plan, "plan") if args.plan else account.plan
    currency = plan.currency or config.dealer.currency
    amount = money.parse(args.amount, currency) if args.amount else plan.price_minor
    if not amount:
        raise UserError(f"plan {plan.name} has no price: give --amount")
    at = _at(args.day, config)
    with core_db.atomic():
        row = sales.charge(args.kind, amount, currency, at, sales.own_source("hand"), account=account, plan=plan.name)
        if args.paid:
            sales.pay(row, amount, at, "", args.reference)
    return str(row.id)


def _charge(number: int) -> Any:
    row = Charge.get_or_none(Charge.id == number)
    if row is None:
        raise UserError(f"there is no sale {number}: see `gatehouse sales list`")
    return row


def _pay(args: argparse.Namespace, config: Config) -> str:
    row = _charge(args.number)
    amount = money.parse(args.amount, row.currency) if args.amount else sales.open_minor(row)
    return str(sales.pay(row, amount, _at(args.day, config), args.method, args.reference).id)


def _refund(args: argparse.Namespace, config: Config) -> str:
    payment = Payment.get_or_none(Payment.id == args.payment)
    if payment is None:
        raise UserError(f"there is no payment {args.payment}")
    amount = money.parse(args.amount, payment.charge.currency)
    return str(sales.refund(payment, amount, int(time.time()), args.reference).id)


def _cancel(args: argparse.Namespace, config: Config) -> str:
    sales.cancel(_charge(args.number), int(time.time()))
    return ""


def _import(args: argparse.Namespace, config: Config) -> str:
    try:
        table = sales_import.read(args.file.read_bytes(), config)
    except OSError as error:
        raise UserError(f"{args.file}: {error.strerror}") from None
    lines = [f"line {line}: {why}" for line, why in table.errors]
    args.status = 1 if lines else 0
    if lines:
        return "\n".join((*lines, "nothing was recorded"))
    count = len(table.rows) if args.preview else sales_import.write(table)
    return f"{count} lines {'would be' if args.preview else 'are'} recorded, {len(table.known)} were before"
