"""`gatehouse voucher`: words in, calls of `vouchers` and `sheets` out."""

import argparse
import csv
import io
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.accounts import vouchers
from appliance.accounts.limits import NONE
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.island import signing
from appliance.tables import show


def add_parser(commands: Any) -> None:
    verbs = commands.add_parser("voucher", help="codes that log in, made and printed in batches").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    _add(verbs.add_parser("add", help="make a batch of vouchers"))
    words = verbs.add_parser("list", help="all batches with what became of them, or the codes of one")
    words.add_argument("batch", nargs="?")
    words.add_argument("--json", action="store_true", help="for programs: exact numbers, every field")
    words.set_defaults(run=_list)
    words = verbs.add_parser("extend", help="another last day for the first login with a batch's unused vouchers")
    words.add_argument("batch")
    words.add_argument("--unused-until", metavar="DAY", required=True, help="such as 2027-12-31; none: no such day")
    words.set_defaults(run=_extend)
    words = verbs.add_parser("revoke", help="make a whole batch or one code useless")
    words.add_argument("name", metavar="BATCH|CODE")
    words.set_defaults(run=_revoke)
    words = verbs.add_parser("remove", help="remove the vouchers of a batch that were never used; used ones stay")
    words.add_argument("batch")
    words.set_defaults(run=_remove)
    words = verbs.add_parser("print", help="a batch as PDF: its vouchers that are unused")
    words.add_argument("batch")
    words.add_argument(
        "--format", choices=vouchers.FORMATS, default="a4", help="cards on A4, or slips for a receipt printer"
    )
    words.add_argument("--output", type=Path, required=True, metavar="FILE.pdf")
    words.set_defaults(run=_print)
    words = verbs.add_parser("csv", help="a batch as a table for other programs")
    words.add_argument("batch")
    words.add_argument("--output", type=Path, required=True, metavar="FILE", help="- is standard output")
    words.set_defaults(run=_csv)


def _add(words: argparse.ArgumentParser) -> None:
    words.add_argument("batch")
    words.add_argument("--plan", required=True)
    words.add_argument("--count", type=int, required=True, metavar="N")
    words.add_argument("--prefix", default="", help="what each code begins with")
    words.add_argument(
        "--length", type=int, default=vouchers.LENGTH, metavar="N", help="characters after the prefix, default 12"
    )
    words.add_argument("--price", metavar="AMOUNT", help="such as 5.00, with --currency")
    words.add_argument("--currency", metavar="CODE", help="its three letters, such as EUR")
    words.add_argument("--unused-until", metavar="DAY", help="the last day for a first login, such as 2027-12-31")
    offline = "codes that this site takes also while it is cut off from the database; default: this appliance's own"
    words.add_argument("--offline", metavar="SITE", nargs="?", const="", help=offline)
    words.set_defaults(run=_make)


def _make(args: argparse.Namespace, config: Config) -> str:
    if (args.price is None) != (args.currency is None):
        raise UserError("--price and --currency: give both or neither")
    until = vouchers.parse_last_day(args.unused_until, config) if args.unused_until else None
    order = vouchers.Order(
        batch=args.batch,
        plan=args.plan,
        count=args.count,
        prefix=args.prefix,
        length=args.length,
        price_minor=vouchers.parse_price(args.price, args.currency) if args.price else 0,
        currency=args.currency or "",
        unused_until=until,
        offline=None if args.offline is None else signing.where(config, args.offline, until),
    )
    vouchers.make(order, load_box(config.paths.state))
    return f"batch {order.batch} added with {order.count} vouchers: see `gatehouse voucher print {order.batch}`"


def _list(args: argparse.Namespace, config: Config) -> str:
    return _codes(args, config) if args.batch else _batches(args, config)


def _batches(args: argparse.Namespace, config: Config) -> str:
    now = int(time.time())
    counts = vouchers.counts(now)
    rows: list[dict[str, object]] = []
    for batch in vouchers.batches():
        states = counts.get(batch.id, dict.fromkeys(vouchers.STATES, 0))
        rows.append(
            {
                "name": batch.name,
                "plan": batch.plan.name,
                **{state.replace(" ", "_"): count for state, count in states.items()},
                "price": vouchers.format_price(batch.price_minor, batch.currency),
                "price_minor": batch.price_minor,
                "currency": batch.currency,
                "unused_until": vouchers.last_day(batch.unused_until, config),
                "made": f"{datetime.fromtimestamp(batch.created_at, config.site.timezone):%Y-%m-%d}",
            }
        )
    columns = [state.replace(" ", "_") for state in vouchers.STATES]
    return show(rows, ("name", "plan", *columns, "price", "unused_until", "made"), args.json)


def _codes(args: argparse.Namespace, config: Config) -> str:
    batch = vouchers.get_batch(args.batch)
    rows = [
        {
            "code": code,
            "state": state,
            "first_login": None
            if first is None
            else datetime.fromtimestamp(first, config.site.timezone).isoformat(timespec="minutes"),
        }
        for code, state, first in vouchers.codes(batch, int(time.time()))
    ]
    return show(rows, ("code", "state", "first_login"), args.json)


def _extend(args: argparse.Namespace, config: Config) -> str:
    until = None if args.unused_until == NONE else vouchers.parse_last_day(args.unused_until, config)
    count = vouchers.extend(args.batch, until)
    return f"batch {args.batch}: {count} vouchers may be used first until {vouchers.last_day(until, config) or 'ever'}"


def _revoke(args: argparse.Namespace, config: Config) -> str:
    count, what = vouchers.revoke(args.name)
    return f"{what} revoked: {count} can't log in any more"


def _remove(args: argparse.Namespace, config: Config) -> str:
    removed, stay = vouchers.remove(args.batch)
    if not stay:
        return f"batch {args.batch} removed: {removed} vouchers, none was ever used"
    return f"batch {args.batch}: {removed} vouchers removed; {stay} that have been used stay"


def _print(args: argparse.Namespace, config: Config) -> str:
    from appliance.accounts import sheets  # its libraries take a quarter of a second to load, other commands needn't

    batch = vouchers.get_batch(args.batch)
    unused = vouchers.unused(batch, int(time.time()))
    write(args.output, sheets.pdf(batch, unused, args.format, config))
    return f"{args.output}: {len(unused)} vouchers"


def _csv(args: argparse.Namespace, config: Config) -> str:
    batch = vouchers.get_batch(args.batch)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("code", "state", "plan", "price", "currency", "unused_until", "url"))
    price = vouchers.format_price(batch.price_minor, batch.currency).removesuffix(f" {batch.currency}")
    last = vouchers.last_day(batch.unused_until, config)
    for code, state, _ in vouchers.codes(batch, int(time.time())):
        table.writerow((code, state, batch.plan.name, price, batch.currency, last, vouchers.login_url(config, code)))
    if str(args.output) == "-":
        sys.stdout.write(text.getvalue())
        return ""
    write(args.output, text.getvalue().encode())
    return str(args.output)


def write(path: Path, content: bytes) -> None:
    """The file as a whole, readable by its owner only: codes are money."""
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(name).rename(path)
    except OSError as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise UserError(f"{path} can't be written: {error.strerror}") from None
