"""The pages about all vaults: who does what now, and whether what is kept is whole and there twice."""

from typing import Any

import peewee

from appliance import data_disk
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.errors import UserError
from appliance.units import format_ago, format_bytes
from appliance.vault import alerts, desk, faults, offers, sources
from appliance.vault.alerts import Alert, Notice
from appliance.vault.browse import EVENTS
from appliance.vault.models import (
    BAD,
    GOOD,
    MISSING,
    Credential,
    Event,
    Failed,
    Head,
    Object,
    Replica,
    Reservation,
    Vault,
)
from appliance.vault.web import url

_SHOWN = 20
_FAILED_S = 86_400
_ALERTS_S = 30 * 86_400


def activity(ask: Ask) -> Any:
    """Log-ins, uploads under way and what they left, refusals."""
    zone = ask.config.site.timezone
    with desk.opened(ask.config):
        name = Vault.select(Vault.name).where(Vault.id == Event.vault)
        of = List(
            title="Activity",
            query=Event.select(
                Event.n,
                Event.at_ms,
                name.alias("vault_name"),
                Event.event,
                Event.path,
                Event.bytes,
                Event.login,
                Event.address,
            ),
            columns=(
                Column("at_ms", "When", Event.n, show=lambda ms: desk.shown(ms / 1000, zone)),
                Column("vault_name", "Vault", link=lambda row: url(row["vault_name"])),
                Column("event", "What", Event.event, show=lambda word: EVENTS.get(word, word)),
                Column("path", "Path", Event.path),
                Column("bytes", "Size", Event.bytes, number=True, show=format_bytes),
                Column("login", "Who", Event.login),
                Column("address", "From", Event.address),
            ),
            order="-at_ms",
            search=lambda text: Event.path.contains(text) | Event.login.contains(text) | (Event.address == text),
            choices=(Choice("event", "What", {key: Event.event == key for key in EVENTS}, EVENTS),),
            empty="Nothing was brought yet.",
            row_id="n",
        )
        return of.respond(
            ask,
            "vault_activity.html",
            logins=_logins(),
            uploads=list(Reservation.select(Reservation, Vault).join(Vault).order_by(Reservation.at_ms).limit(_SHOWN)),
            refused=_refused(ask.now),
            ago=lambda at: format_ago(ask.now - at),
            when=lambda ms: desk.shown(ms / 1000, zone),
            url=url,
        )


def _logins() -> list[Any]:
    used = Credential.select(Credential, Vault).join(Vault).where(Credential.used_at.is_null(False))
    return list(used.order_by(Credential.used_at.desc()).limit(_SHOWN))


def _refused(now: int) -> list[tuple[str, int, int]]:
    """Addresses that wrong passwords came from lately: how many, and the last one's time."""
    since = (now - _FAILED_S) * 1000
    count, last = peewee.fn.COUNT(Failed.id), peewee.fn.MAX(Failed.at_ms)
    rows = Failed.select(Failed.subject, count, last).where(
        (Failed.at_ms > since) & Failed.subject.startswith("address ")
    )
    found: Any = rows.group_by(Failed.subject).order_by(last.desc()).limit(_SHOWN).tuples()
    return [(subject.removeprefix("address "), number, at_ms // 1000) for subject, number, at_ms in found]


def copies(ask: Ask) -> Any:
    """The disk, the contents on it, the second copy; and what alerts were told."""
    zone = ask.config.site.timezone
    with desk.opened(ask.config):
        try:
            data_disk.ready(ask.config)
            disk = ""
        except UserError as error:
            disk = str(error)
        counts = desk.counted(Object.state)
        size, oldest = (
            Object.select(peewee.fn.SUM(Object.bytes), peewee.fn.MIN(Object.verified_at))
            .where(Object.state == GOOD)
            .tuples()
            .first()
        )
        lately = Alert.select().where(Alert.over_at.is_null() | (Alert.over_at > ask.now - _ALERTS_S))
        return ask.page(
            "vault_copies.html",
            disk=disk,
            faults=faults.open_faults(),
            good=counts.get(GOOD, 0),
            damaged=counts.get(BAD, 0) + counts.get(MISSING, 0),
            size=size or 0,
            oldest=oldest,
            replicas=list(Replica.select().order_by(Replica.name)),
            replica_set=ask.config.vault.replica is not None,
            offers=[(offer, offers.is_behind(offer, ask.now)) for offer in offers.rows()],
            sources=sources.rows(),
            head=Head.get_or_none(),
            alerts=list(lately.order_by(Alert.over_at.is_null(False), Alert.since_at.desc()).limit(100)),
            waiting=list(Notice.select(Notice, Alert).join(Alert).where(Notice.tries > 0).limit(_SHOWN)),
            told=[
                way
                for way, to in (
                    (alerts.MAIL, ask.config.vault.alert_mail),
                    (alerts.WEBHOOK, ask.config.vault.alert_webhook),
                )
                if to
            ],
            ago=lambda at: format_ago(ask.now - at),
            when=lambda at: desk.shown(at, zone),
            url=url,
        )


PAGES = (
    Page("/netbackup/activity", activity, nav="Activity"),
    Page("/netbackup/copies", copies, nav="Disk and copies"),
)
