"""What is done for dealers without being asked: sales into the ledger, vouchers' reservations, invoices by e-mail,
the month's end, verifying; and telling somebody. Each of these may be done again, and by commands as well.

`python -m appliance.dealers.keeper`
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import peewee

from appliance import db, mail, process
from appliance.accounts import leases
from appliance.accounts.database import bind_core
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox, load_box
from appliance.dealers import desk, earning, invoice_mail, ledger, ledger_db, month_end, notes, overview, selling
from appliance.dealers.models import Dealer
from appliance.dealers.models import ledger_db as database
from appliance.errors import UserError

TICK_S = 0.5
MOST_AT_ONCE = 500  # sales, before others have their turn
DAY_S = 86_400

log = logging.getLogger(__name__)


@dataclass
class Job:
    """`run` is given UTC seconds; what failed is tried again after a while."""

    name: str
    every_s: float
    run: Callable[[int], None]
    next_at_s: float = 0.0
    failed: str = ""


def jobs(config: Config, box: SecretBox, sender: mail.Sender) -> list[Job]:
    return [
        Job("sales", 2, lambda now: _take_over(config, now)),
        Job("vouchers", 5, lambda now: _recover(config, now)),
        Job("invoices by e-mail", 30, lambda now: _mail(config, box, now)),
        Job("month end", 1800, lambda now: _month_end(config, now)),
        Job("verifying", DAY_S, lambda now: _verify(config, now)),
        Job("alerts", 60, lambda now: tell(config, box, now)),
        Job("messages", 2, lambda now: mail.send_unless_the_jobs_do(config, sender, "dealers", now)),
    ]


def _take_over(config: Config, now: int) -> None:
    count = earning.take_over(config, now, limit=MOST_AT_ONCE)
    if count:
        log.info("%d postings for sales", count)


def _recover(config: Config, now: int) -> None:
    if count := selling.recover(config, now):
        log.warning("%d sales of vouchers had broken off; they are completed or released", count)


def _mail(config: Config, box: SecretBox, now: int) -> None:
    if count := invoice_mail.run(config, box, now):
        log.info("%d invoices go to their dealers by e-mail", count)


def _month_end(config: Config, now: int) -> None:
    """Ends the month where that is wished, and notes what is left of it in either case."""
    if config.dealer.automatic_month_end and month_end.is_due(config, now):
        outcome = month_end.run(config, month_end.last(config, now), "the appliance", now)
        for line in outcome.lines():
            log.info("month end: %s", line)
    period, count = month_end.unsettled(config, now)
    notes.change(config, unsettled=period if count else "", unsettled_dealers=count, looked_at=now)


def _verify(config: Config, now: int) -> None:
    """A dealer at a time, so that nobody waits for it."""
    broken = []
    for dealer in Dealer.select().order_by(Dealer.id):
        broken += [f"{dealer.name}: {line}" for line in ledger.verify(dealer)]
    notes.change(config, verified_at=now, broken=tuple(broken[:100]))
    if broken:
        log.error("the ledger was changed: %s", broken[0])


def tell(config: Config, box: SecretBox, now: int) -> None:
    """By e-mail, what needs attention and wasn't told yet; once."""
    to = config.dealer.alert_mail
    lines = tuple(one.text for one in overview.attention(config, now))
    told = notes.read(config).told
    fresh = [line for line in lines if line not in told]
    if to and config.mail.host and fresh:
        text = "".join(f"- {line}\n" for line in fresh)
        with core_db.atomic():
            mail.post(to, f"{config.site.name}: dealers need attention", text, box, now)
    if lines != told:
        notes.change(config, told=lines)


class Lead:
    """Of several appliances on one database one does the work: it could be done twice, but would be told twice."""

    def __init__(self, config: Config) -> None:
        self._alone = not ledger_db.is_in_server(config)
        self._holder = leases.machine(config)
        self._failed = ""

    def time(self) -> int | None:
        """UTC seconds by the clock that all of them share; None while the work is another's."""
        try:
            now = db.clock(core_db.obj, int(time.time()))
            is_ours = self._alone or leases.hold("dealers", self._holder, now)
        except peewee.PeeweeException as error:
            if str(error) != self._failed:  # what lasts is told once
                log.warning("the database can't be asked: %s", error)
            self._failed = str(error)
            return None
        self._failed = ""
        return now if is_ours else None


def tick(todo: list[Job], now: int) -> None:
    for job in todo:
        if time.monotonic() < job.next_at_s:
            continue
        job.next_at_s = time.monotonic() + job.every_s
        try:
            job.run(now)
            job.failed = ""
        except (UserError, OSError, peewee.PeeweeException) as error:
            if str(error) != job.failed:  # what lasts is told once
                log.warning("%s: %s", job.name, error)
            job.failed = str(error)
            job.next_at_s = time.monotonic() + min(job.every_s, 60)
            if isinstance(error, peewee.PeeweeException):
                _connect_again()
        except Exception:  # the other jobs go on
            job.next_at_s = time.monotonic() + 60
            log.exception("%s", job.name)


def _connect_again() -> None:
    """A server's database may have gone away, and come back."""
    with contextlib.suppress(peewee.PeeweeException):
        core_db.close()
        core_db.connect()


def serve(config: Config, over: threading.Event) -> None:
    box = load_box(config.paths.state)
    sender = mail.Sender(config, box)
    bind_core(config)
    todo = jobs(config, box, sender)
    with contextlib.closing(core_db), desk.opened(config):
        core_db.connect()
        lead = Lead(config)
        while not over.wait(TICK_S):
            if (now := lead.time()) is not None:
                tick(todo, now)
    sender.close()
    database.close()


if __name__ == "__main__":
    process.run("gatehouse-dealers", "What is done for dealers without being asked.", serve)
