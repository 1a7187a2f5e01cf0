"""The dealer module: what those who sell have earned, what they are paid, and who does that."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import peewee

from appliance.config import Config
from appliance.dealers import finding, ledger_db
from appliance.errors import UserError
from appliance.service import Attention, Database, Directory, File, Group, Module, Service, Setting, Tile, python

USER = "gatehouse-dealers"
STATE = ledger_db.STATE

KEEPER = Service(
    name="dealers",
    description="takes sales over into the dealers' ledger, and does there what is due",
    user=USER,
    groups=("gatehouse-core",),
    command=lambda config: ["/usr/bin/nice", "--adjustment=10", *python("appliance.dealers.keeper")],
    reads=("site", "paths", "database", "mail", "dealer"),
    writes=lambda config: [config.paths.state / name for name in ("core", STATE)],
)


def render(config: Config) -> list[File]:
    """Nothing: the keeper reads the configuration itself."""
    return []


def problems(config: Config) -> Iterator[str]:
    """What stops the ledger from being what it is; what somebody has still to do is none."""
    from appliance.dealers import overview

    try:
        yield from overview.problems(config)
    except (OSError, UserError, peewee.PeeweeException) as error:
        yield f"dealers: the ledger can't be read: {error}"


def lines(config: Config) -> Iterable[str]:
    """What `gatehouse status` says of it."""
    from appliance.dealers import overview

    try:
        yield from overview.lines(config)
    except (OSError, UserError, peewee.PeeweeException):
        return  # which is among the problems


def attention(config: Config, now: int) -> Iterator[Attention]:
    from appliance.dealers import overview

    return overview.attention(config, now)


def tiles(config: Config, now: int) -> Iterator[Tile]:
    from appliance.dealers import overview

    return overview.tiles(config, now)


def verify(file: Path) -> Iterable[str]:
    """What is wrong with a ledger that is to come back from a backup."""
    from appliance.dealers import overview

    return overview.verify_file(file)


def verify_open(database: peewee.Database) -> Iterable[str]:
    """The same of one that is open."""
    from appliance.dealers import overview

    return overview.verify_open(database)


SETTINGS = Group(
    "dealer",
    "Dealers",
    (
        Setting("dealer.name", "Your name by law", "As it stands on dealers' invoices"),
        Setting("dealer.street", "Street"),
        Setting("dealer.house", "House number"),
        Setting("dealer.postcode", "Postcode"),
        Setting("dealer.city", "City"),
        Setting("dealer.country", "Country", "Two letters, such as CZ"),
        Setting("dealer.company_id", "Company ID", "In the register of companies"),
        Setting("dealer.vat_id", "VAT ID", "If you have one"),
        Setting("dealer.vat_rate", "VAT, percent", "What dealers who pay VAT charge, unless their page says otherwise"),
        Setting("dealer.iban", "Account (IBAN)", "That payouts leave"),
        Setting("dealer.bic", "Its bank (BIC)"),
        Setting("dealer.email", "E-mail for questions", "Of dealers, about an invoice"),
        Setting("dealer.currency", "Currency", "Three letters, such as EUR"),
        Setting("dealer.invoice_due_days", "Invoices are due after, days"),
        Setting(
            "dealer.series", "Numbers of invoices begin with", "Up to eight capitals and digits, the last one a letter"
        ),
        Setting("dealer.mail_invoices", "Send invoices by e-mail", "Each issued one to its dealer"),
        Setting("dealer.automatic_month_end", "End months by itself", "Settle and issue invoices without being asked"),
        Setting("dealer.month_end_day", "On this day of the next month", "1 to 28"),
        Setting("dealer.alert_mail", "Alerts by e-mail to", "A month that isn't settled, a broken ledger"),
    ),
)

DEALER = Module(
    name="dealer",
    title="Dealers",
    summary="Commissions and payments of those who sell for you, invoices, and pages of their own",
    chapter="dealer.md",
    services=(KEEPER,),
    directories=(Directory("state", STATE, USER, USER, 0o2770, written_by_pages=True),),
    render=render,
    verify=lambda config: None,
    problems=problems,
    lines=lines,
    settings=(SETTINGS,),
    attention=attention,
    tiles=tiles,
    web=(
        "appliance.dealers.web",
        "appliance.dealers.web_sales",
        "appliance.dealers.web_schemes",
        "appliance.dealers.web_settlement",
        "appliance.dealers.web_invoices",
        "appliance.dealers.web_payouts",
        "appliance.dealers.web_tables",
        "appliance.dealers.web_statistics",
        "appliance.dealers.web_own",
        "appliance.dealers.web_own_sell",
        "appliance.dealers.web_own_money",
    ),
    search=(finding.SEARCH,),
    api=("appliance.dealers.api",),
    metrics=("appliance.dealers.metrics",),
    checks=("appliance.dealers.checks",),
    databases=(
        Database(
            f"{STATE}/{ledger_db.FILE}",
            USER,
            USER,
            "appliance.dealers.migrations",
            verify,
            ledger_db.SCHEMA,
            verify_open,
        ),
    ),
)
