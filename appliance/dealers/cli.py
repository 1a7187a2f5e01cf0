"""`gatehouse dealer`: who the dealers are, what is theirs, and what they earn by. Their money is in cli_money.py."""

import argparse
import secrets
import time
from collections.abc import Callable
from typing import Any

from appliance.accounts import manage
from appliance.accounts.models import Plan
from appliance.accounts.vouchers import codes, get_batch
from appliance.config import Config
from appliance.dealers import (
    agreements,
    attribution,
    cli_money,
    credit,
    dealers,
    desk,
    earning,
    ledger,
    money,
    months,
    schemes,
    selling,
    simulator,
    statistics,
    wording,
)
from appliance.dealers.fields import FIELDS, read
from appliance.dealers.models import ACCOUNT, BATCH, Dealer, Scheme
from appliance.dealers.selling_models import SOLD
from appliance.errors import UserError
from appliance.tables import show

_WORDS = tuple(field for group in FIELDS for field in group.fields)
_BALANCES = ("accrued", "payable", "paid", "credit")

Run = Callable[[argparse.Namespace, Config], str]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("dealer", help="who sells for you: commissions, invoices, payouts, voucher credit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, run, help_ in (("add", _add, "a new dealer"), ("set", _set, "change a dealer")):
        words = _verb(verbs, name, run, help_)
        words.add_argument("dealer")
        for field in _WORDS:
            words.add_argument(f"--{_option(field.name)}", dest=field.name, metavar="TEXT", help=field.title.lower())
    words = _verb(verbs, "list", _list, "all dealers, with what they are owed")
    words.add_argument("--json", action="store_true")
    words = _verb(verbs, "show", _show, "a dealer, and what is theirs")
    words.add_argument("dealer")
    words.add_argument("--json", action="store_true")
    words = _verb(verbs, "passwd", _passwd, "make up a new password for a dealer's log-in; it is printed")
    words.add_argument("dealer")
    words = _verb(verbs, "attribute", _attribute, "an account or a batch of vouchers is a dealer's")
    words.add_argument("dealer")
    words.add_argument("kind", choices=(ACCOUNT, BATCH))
    words.add_argument("name")
    words.add_argument("--from", dest="since", default="", metavar="DAY", help="from that day on; now by default")
    words.add_argument("--until", default="", metavar="DAY", help="its last day")
    words.add_argument("--end", action="store_true", help="it is theirs no more, from now on")
    _scheme_parser(verbs)
    words = _verb(verbs, "simulate", _simulate, "what other terms would have brought each dealer; writes nothing")
    words.add_argument("scheme", nargs="?", default="", help="its newest version; or the terms themselves")
    words.add_argument("--since", default="", metavar="MONTH", help="12 months back by default")
    words.add_argument("--json", action="store_true")
    _terms_words(words)
    words = _verb(verbs, "top-up", _top_up, "credit for vouchers that a dealer has paid")
    words.add_argument("dealer")
    cli_money.add_amount(words)
    words.add_argument("--reference", default="", help="such as a receipt's number; the same one counts once")
    words = _verb(verbs, "sell", _sell, "vouchers for a dealer, on their credit; prints the codes")
    words.add_argument("dealer")
    words.add_argument("plan")
    words.add_argument("count", type=int)
    cli_money.add_parsers(verbs, _verb)


def _option(name: str) -> str:
    return name.removesuffix("_minor").replace("_", "-")


def _scheme_parser(verbs: Any) -> None:
    parser = verbs.add_parser("scheme", help="what is earned, in versions")
    inner = parser.add_subparsers(dest="scheme_verb", required=True, metavar="VERB")
    for name, run, help_ in (
        ("add", _scheme_add, "a new scheme"),
        ("version", _scheme_version, "another version of a scheme"),
    ):
        words = _verb(inner, name, run, help_)
        words.add_argument("scheme")
        words.add_argument("--from", dest="since", default="", metavar="DAY", help="for sales from then on; now")
        _terms_words(words)
    words = _verb(inner, "list", _scheme_list, "all schemes, with their newest terms")
    words.add_argument("--json", action="store_true")
    words = _verb(inner, "show", _scheme_show, "a scheme's versions")
    words.add_argument("scheme")
    words = _verb(inner, "assign", _scheme_assign, "a dealer earns by a scheme")
    words.add_argument("dealer")
    words.add_argument("scheme")
    words.add_argument("--from", dest="since", default="", metavar="DAY", help="from that day on; now by default")


def _terms_words(words: argparse.ArgumentParser) -> None:
    words.add_argument("--percent", default="", help="of the money received")
    words.add_argument("--fixed", default="", metavar="AMOUNT", help="for each new customer or voucher")
    words.add_argument("--months", default="", metavar="N", help="of each customer; for ever by default")
    words.add_argument("--tiers", default="", metavar="LIST", help="percent by volume: '0 5; 1000 7.5'")
    words.add_argument("--volume", default="", choices=("", *schemes.VOLUMES), help="for how long it adds up: month")
    words.add_argument("--plans", default="", metavar="LIST", help="other terms: 'home percent=15 months=12'")
    words.add_argument("--hold", default="", metavar="DAYS", help="from the payment on, before it is settled")
    words.add_argument("--clawback", default="", metavar="DAYS", help="taken back where the account is removed so soon")
    words.add_argument("--minimum", default="", metavar="AMOUNT", help="less is carried on to the next month")
    words.add_argument("--currency", default="", help="[dealer] currency by default")


def _verb(verbs: Any, name: str, run: Run, help_: str) -> Any:
    words = verbs.add_parser(name, help=help_)
    words.set_defaults(run=lambda args, config: _opened(run, args, config))
    return words


def _opened(run: Run, args: argparse.Namespace, config: Config) -> str:
    """What was sold is taken over first, as the keeper does, whether it runs or not."""
    with desk.plainly(), desk.opened(config):
        if args.needs_core:
            earning.catch_up(config)
        return run(args, config)


def _columns(args: argparse.Namespace, config: Config, currency: str) -> dict[str, Any]:
    given = {field.name: getattr(args, field.name) for field in _WORDS}
    return read({key: value for key, value in given.items() if value is not None}, config, currency)


def _add(args: argparse.Namespace, config: Config) -> str:
    currency = args.currency or config.dealer.currency
    columns = {"currency": currency, "country": config.dealer.country} | _columns(args, config, currency)
    dealer = dealers.add(args.dealer, **columns)
    return f"log-in {dealer.login}, password {dealers.set_password(dealer)}" if dealer.login else ""


def _set(args: argparse.Namespace, config: Config) -> str:
    dealer = dealers.get(args.dealer)
    dealers.change(dealer, _columns(args, config, dealer.currency))
    return ""


def _list(args: argparse.Namespace, config: Config) -> str:
    rows = [_row(dealer) for dealer in dealers.listed()]
    return show(rows, ("dealer", "state", "currency", *_BALANCES), args.json)


def _row(dealer: Any) -> dict[str, object]:
    shown = {key: getattr(dealer, key) for key in dealers.COLUMNS}
    sums = {key: money.plain(ledger.balance(dealer, dealer.currency, key), dealer.currency) for key in _BALANCES}
    return {"dealer": dealer.name, **shown, **sums}


def _show(args: argparse.Namespace, config: Config) -> str:
    dealer, zone = dealers.get(args.dealer), config.site.timezone
    row = _row(dealer)
    theirs = [
        {
            "kind": one.kind,
            "name": one.name,
            "from": desk.day(one.valid_from, zone),
            "until": desk.last_day(one.valid_to, zone),
        }
        for one in dealer.attributions
    ]
    by = [
        {"scheme": one.scheme.name, "from": desk.day(one.valid_from, zone), "until": desk.last_day(one.valid_to, zone)}
        for one in dealer.schemes
    ]
    if args.json:
        return show([row | {"attributed": theirs, "schemes": by}], (), True)
    facts = show([{"key": key, "value": value} for key, value in row.items()], ("key", "value"), False)
    tables = (show(by, ("scheme", "from", "until"), False), show(theirs, ("kind", "name", "from", "until"), False))
    return "\n\n".join((facts, *tables))


def _passwd(args: argparse.Namespace, config: Config) -> str:
    dealer = dealers.get(args.dealer)
    if not dealer.login:
        raise UserError(f"{dealer.name} has no log-in yet: gatehouse dealer set {dealer.name} --login NAME")
    return f"log-in {dealer.login}, password {dealers.set_password(dealer)}"


def _attribute(args: argparse.Namespace, config: Config) -> str:
    dealer, now = dealers.get(args.dealer), int(time.time())
    ref = desk.reference(args.kind, args.name)
    if args.end:
        row = attribution.holding(args.kind, ref, now)
        if row is None or row.dealer_id != dealer.id:
            raise UserError(f"{args.kind} {args.name!r} isn't {dealer.name}'s")
        attribution.end(row, now)
        return ""
    since = desk.begin_of(args.since, config.site.timezone)
    until = desk.end_of(args.until, config.site.timezone)
    attribution.attribute(dealer, args.kind, ref, args.name, now if since is None else since, until)
    return ""


# Schemes


def _terms(args: argparse.Namespace, config: Config) -> schemes.Terms:
    return wording.terms({key: getattr(args, key) for key in wording.WORDS}, config.dealer.currency)


def _since(args: argparse.Namespace, config: Config) -> int:
    since = desk.begin_of(args.since, config.site.timezone)
    return int(time.time()) if since is None else since


def _scheme_add(args: argparse.Namespace, config: Config) -> str:
    terms = _terms(args, config)
    agreements.add_scheme(args.scheme, terms, _since(args, config))
    return "\n".join(wording.sentences(terms))


def _scheme_version(args: argparse.Namespace, config: Config) -> str:
    terms = _terms(args, config)
    row = agreements.add_version(args.scheme, terms, _since(args, config))
    return "\n".join((f"version {row.number}", *wording.sentences(terms)))


def _scheme_list(args: argparse.Namespace, config: Config) -> str:
    rows = []
    for scheme in Scheme.select().order_by(Scheme.name):
        newest = agreements.versions(scheme.name)[0]
        terms = "; ".join(wording.sentences(schemes.parse(newest.terms)))
        rows.append({"scheme": scheme.name, "version": newest.number, "terms": terms})
    return show(rows, ("scheme", "version", "terms"), args.json)


def _scheme_show(args: argparse.Namespace, config: Config) -> str:
    lines = []
    for row in agreements.versions(args.scheme):
        lines.append(f"version {row.number}, for sales from {desk.day(row.valid_from, config.site.timezone)}")
        lines += [f"  {line}" for line in wording.sentences(schemes.parse(row.terms))]
    return "\n".join(lines)


def _scheme_assign(args: argparse.Namespace, config: Config) -> str:
    agreements.assign(dealers.get(args.dealer), agreements.get(args.scheme), _since(args, config))
    return ""


def _simulate(args: argparse.Namespace, config: Config) -> str:
    until = months.before(int(time.time()), config.site.timezone)
    zone, span = config.site.timezone, statistics.until(until, 12, config.site.timezone)
    since = months.period(args.since, zone) if args.since else span[0]
    terms = schemes.parse(agreements.versions(args.scheme)[0].terms) if args.scheme else _terms(args, config)
    rows = [
        {
            "dealer": row.dealer,
            "received": money.plain(row.received_minor, row.currency),
            "then": money.plain(row.then_minor, row.currency),
            "now": money.plain(row.now_minor, row.currency),
            "currency": row.currency,
        }
        for row in simulator.simulate(config, terms, since.since, until.until)
    ]
    return show(rows, ("dealer", "received", "then", "now", "currency"), args.json)


# Vouchers


def _top_up(args: argparse.Namespace, config: Config) -> str:
    dealer = dealers.get(args.dealer)
    credit.top_up(dealer, money.parse(args.amount, dealer.currency), "command", args.reference, int(time.time()))
    return f"credit {money.text(credit.balance(Dealer.get_by_id(dealer.id)), dealer.currency)}"


def _sell(args: argparse.Namespace, config: Config) -> str:
    dealer, now = dealers.get(args.dealer), int(time.time())
    plan = manage.get(Plan, args.plan, "plan")
    wish = selling.Wish(plan.name, args.count, plan.price_minor, secrets.token_urlsafe(16))
    sale = selling.sell(config, dealer, wish, now)
    if sale.state != SOLD:
        raise UserError(f"nothing was sold: the sale is {sale.state}")
    return "\n".join(code for code, *_ in codes(get_batch(sale.batch), now))
