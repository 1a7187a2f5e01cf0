"""What somebody has to know of: found by the keeper each minute, told once, and once more when it is over.

A file that is late, a quota that is nearly used, a disk or contents that failed, a second copy that is behind, a
router's backup that can't be restored.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import peewee

from appliance import data_disk
from appliance.config import Config
from appliance.errors import UserError
from appliance.service import Attention
from appliance.units import format_ago, format_bytes, format_duration, parse_duration
from appliance.vault import desk, diff, faults, lateness, offers, routeros, sources, summary
from appliance.vault.models import Chore, Learned, Refused, Replica, Span, Vault, VaultModel, Version, vault_db
from appliance.vault.store import Store

LATE, QUOTA, DISK, CONTENTS, COPY, BACKUP = "late", "quota", "disk", "contents", "copy", "backup"
HISTORY = "history"  # of another appliance, that isn't what it was
NONE = "none"  # a schedule: nothing is expected
NEARLY = 0.9
MAIL, WEBHOOK = "mail", "webhook"
FORGOTTEN_S = 90 * 86_400
GIVEN_UP_S = 60 * 86_400  # a series that is late for so long is no more
MOST_UPLOADS, MOST_BACKUPS, MOST_DETAIL = 5000, 500, 40
_BACKUPS_S = 2 * 86_400

log = logging.getLogger(__name__)


class Alert(VaultModel):
    """Open until `over_at`. `vault` is a name, empty where it is about all of them."""

    id = peewee.AutoField()
    kind = peewee.TextField()
    subject = peewee.TextField()
    vault = peewee.TextField(default="")
    text = peewee.TextField()
    detail = peewee.TextField(default="")
    since_at = peewee.BigIntegerField()
    over_at = peewee.BigIntegerField(null=True)


class Notice(VaultModel):
    """That an alert began or is `over`, on its way to somebody."""

    id = peewee.AutoField()
    alert = peewee.ForeignKeyField(Alert, backref="notices")
    over = peewee.BooleanField()
    way = peewee.TextField()
    tries = peewee.IntegerField(default=0)
    next_try_at = peewee.BigIntegerField()
    error = peewee.TextField(default="")


class Found(NamedTuple):
    kind: str
    subject: str
    text: str
    vault: str = ""
    detail: str = ""


def schedule(text: str) -> str:
    """As it is kept: a duration, `none`, or empty, which is learned. Raises UserError."""
    plain = text.strip().lower()
    if plain in ("", NONE):
        return plain
    seconds = parse_duration(plain)
    if seconds < lateness.SHORTEST_S:
        raise UserError(f"{plain}: {format_duration(lateness.SHORTEST_S)} is the shortest that can be expected")
    return format_duration(seconds)


# By the keeper


def run(config: Config, store: Store, now: int) -> None:
    """Everything that is to be told now is an open alert afterwards, and nothing else."""
    for vault in Vault.select().where(Vault.removed_at.is_null()):
        learn(vault)
    found = list(every(config, store, now))
    with vault_db.atomic():
        note(config, found, now)


def note(config: Config, found: Sequence[Found], now: int) -> None:
    ways = [way for way, to in ((MAIL, config.vault.alert_mail), (WEBHOOK, config.vault.alert_webhook)) if to]
    wanted = {(one.kind, one.subject): one for one in found}
    for alert in Alert.select().where(Alert.over_at.is_null()):
        one = wanted.pop((alert.kind, alert.subject), None)
        if one is None:
            log.info("over: %s", alert.text)
            Alert.update(over_at=now).where(Alert.id == alert.id).execute()
            _tell(alert, True, ways, now)
        elif one.text != alert.text:
            Alert.update(text=one.text).where(Alert.id == alert.id).execute()
    for one in wanted.values():
        log.warning("%s", one.text)
        _tell(Alert.create(since_at=now, **one._asdict()), False, ways, now)
    Alert.delete().where(Alert.over_at < now - FORGOTTEN_S).execute()


def _tell(alert: Any, over: bool, ways: Sequence[str], now: int) -> None:
    for way in ways:
        Notice.create(alert=alert, over=over, way=way, next_try_at=now)


def every(config: Config, store: Store, now: int) -> Iterator[Found]:
    yield from _disk(config)
    for copy in Replica.select():
        if copy.problem and (copy.pulled_at is None or copy.pulled_at < now - summary.REPLICA_OLD_S):
            yield Found(COPY, str(copy.name), f"the second copy {copy.name} is behind: {copy.problem}")
    yield from _elsewhere(now)
    for vault in Vault.select().where(Vault.removed_at.is_null()).order_by(Vault.name):
        yield from _quota(vault)
        yield from _late(store, vault, now)
        yield from _backups(store, vault, now)


def _elsewhere(now: int) -> Iterator[Found]:
    for name, text, loud in sources.alarms(now):
        yield Found(HISTORY if loud else COPY, f"source {name}", text)
    for offer in offers.rows():
        if offers.is_behind(offer, now):
            since = format_ago(now - (offer.pulled_at or offer.created_at))
            yield Found(COPY, f"offer {offer.name}", f"the copy that {offer.name} keeps last followed {since}")
        elif offer.bad:
            yield Found(
                COPY, f"offer {offer.name}", f"{offer.bad} contents of the copy that {offer.name} keeps are bad"
            )


def _disk(config: Config) -> Iterator[Found]:
    try:
        data_disk.ready(config)
    except UserError as error:
        yield Found(DISK, "data disk", f"nothing can be stored: {error}")
    for fault in faults.open_faults():
        kind = DISK if fault.kind == faults.DISK else CONTENTS
        yield Found(kind, str(fault.subject), str(fault.text))


def _quota(vault: Any) -> Iterator[Found]:
    if vault.quota_bytes and vault.used_bytes >= vault.quota_bytes * NEARLY:
        used = f"{format_bytes(vault.used_bytes)} of {format_bytes(vault.quota_bytes)}"
        yield Found(QUOTA, f"{vault.name} bytes", f"vault {vault.name} is nearly full: {used}", vault.name)
    if vault.quota_files and vault.used_files >= vault.quota_files * NEARLY:
        used = f"{vault.used_files:,} of {vault.quota_files:,} files"
        yield Found(QUOTA, f"{vault.name} files", f"vault {vault.name} is nearly full: {used}", vault.name)


def _late(store: Store, vault: Any, now: int) -> Iterator[Found]:
    if vault.schedule == NONE:
        return
    if vault.schedule:
        every_s = parse_duration(vault.schedule)
        last = _last(vault) or vault.created_at
        if now - last > lateness.late_after(every_s):
            text = (
                f"vault {vault.name}: the last upload was {format_ago(now - last)}, one is due every {vault.schedule}"
            )
            yield Found(LATE, str(vault.name), text, vault.name)
        return
    for one in Learned.select().where(Learned.vault == vault, Learned.late_since < now):
        if now - (one.late_since or now) > GIVEN_UP_S:
            Learned.update(late_since=None).where(Learned.id == one.id).execute()
            continue
        usual = format_duration(max(60, round(one.every_s / 60) * 60))
        text = f"{one.series} of vault {vault.name} last came {format_ago(now - one.last_at)}, usually every {usual}"
        yield Found(LATE, f"{vault.name} {one.series}", text, vault.name, last_change(store, vault, one.series))


def _last(vault: Any) -> int | None:
    whole = (Version.vault == vault) & Version.confirmed
    last = Version.select(Version.stored_ms).where(whole).order_by(Version.id.desc()).first()
    return last.stored_ms // 1000 if last else None


def _backups(store: Store, vault: Any, now: int) -> Iterator[Found]:
    """Routers' backups of the last days that can't be restored or shrank, until a better one comes."""
    for path, version in _present_backups(vault, (now - _BACKUPS_S) * 1000):
        try:
            worth = desk.verdict(store, vault, path, version)
        except (Refused, OSError):
            continue  # that it can't be read is the scrub's to say
        if worth.alarm:
            state = "may be incomplete" if worth.restorable else "can't be restored"
            text = f"the backup {path} of vault {vault.name} {state}: {'; '.join(worth.doubts)}"
            yield Found(BACKUP, f"{vault.name} {path}", text, vault.name)


def _present_backups(vault: Any, since_ms: int) -> Iterator[tuple[str, Any]]:
    named = Span.name.endswith(".backup") | Span.name.endswith(".rsc")
    query = Span.select(Span, Version).join(Version).where((Span.vault == vault) & Span.until_ms.is_null() & named)
    for span in query.where(Version.stored_ms >= since_ms).order_by(Version.id.desc()).limit(MOST_BACKUPS):
        yield f"{span.folder.rstrip('/')}/{span.name}", span.version


# Schedules that are learned


def learn(vault: Any) -> None:
    """Only where something came since the last time."""
    whole = (Version.vault == vault) & Version.confirmed
    newest = Version.select(peewee.fn.MAX(Version.stored_ms)).where(whole).scalar() or 0
    looked = Chore.get_or_none(Chore.name == f"learn {vault.id}")
    if looked is not None and looked.done_at == newest:
        return
    known = {one.series: one for one in Learned.select().where(Learned.vault == vault)}
    rows = Version.select(Version.path, Version.stored_ms).where(whole).order_by(Version.id.desc()).limit(MOST_UPLOADS)
    with vault_db.atomic():
        for name, times in lateness.by_series((row.path, row.stored_ms // 1000) for row in rows).items():
            _learn(vault, name, times, known.get(name))
        Chore.replace(name=f"learn {vault.id}", done_at=newest).execute()  # type: ignore[no-untyped-call]


def _learn(vault: Any, name: str, times: Sequence[int], known: Any) -> None:
    """What was forgotten stays so until it comes again; what was regular is expected as it was."""
    rhythm, last = lateness.rhythm(times), times[-1]
    if known is not None and last <= known.last_at:
        return
    if rhythm is not None:
        late_since: int | None = last + rhythm.late_s
    elif known is not None:
        late_since = known.late_since and last + known.late_since - known.last_at
    else:
        return
    every_s, samples = (rhythm.every_s, rhythm.samples) if rhythm else (known.every_s, known.samples)
    values = {"every_s": every_s, "last_at": last, "samples": samples, "late_since": late_since}
    if known is None:
        Learned.create(vault=vault, series=name, **values)
    else:
        Learned.update(values).where(Learned.id == known.id).execute()


def forget(vault: Any, number: int) -> str:
    """Nothing is expected of a series any more, until it comes again. Returns its name."""
    found = Learned.get_or_none((Learned.id == number) & (Learned.vault == vault))
    if found is None:
        raise UserError("that is expected no more")
    Learned.update(late_since=None).where(Learned.id == found.id).execute()
    return str(found.series)


def last_change(store: Store, vault: Any, name: str) -> str:
    """What was different between the last two exports of a series, without secrets."""
    if not name.endswith(".rsc"):
        return ""
    rows = Version.select().where((Version.vault == vault) & Version.confirmed & Version.path.endswith(".rsc"))
    last = [row for row in rows.order_by(Version.id.desc()).limit(500) if lateness.series(row.path) == name][:2]
    try:
        new, old = (desk.content(store, version, routeros.MAX_EXPORT_BYTES) for version in last)
        lines = diff.as_text(diff.compare(old, new, export=True)).splitlines()
    except (ValueError, Refused, UserError, OSError):
        return ""
    return "\n".join([*lines[:MOST_DETAIL], *(["…"] if len(lines) > MOST_DETAIL else [])])


# For pages, within an open catalogue


def opened_ones() -> list[Any]:
    return list(Alert.select().where(Alert.over_at.is_null()).order_by(Alert.since_at, Alert.id))


def of_vault(vault: Any) -> list[Any]:
    return [alert for alert in opened_ones() if alert.vault == vault.name]


def by_vault() -> Mapping[str, str]:
    """In a word each."""
    found: dict[str, list[str]] = {}
    for alert in opened_ones():
        kinds = found.setdefault(str(alert.vault), [])
        kinds += [str(alert.kind)] if alert.kind not in kinds else []
    return {name: ", ".join(kinds) for name, kinds in found.items()}


class Series(NamedTuple):
    id: int
    name: str
    every: str
    last: str
    late: bool


def series(vault: Any, now: int) -> list[Series]:
    expected = (Learned.vault == vault) & Learned.late_since.is_null(False)
    rows = Learned.select().where(expected).order_by(Learned.series).limit(100)
    return [
        Series(
            row.id,
            row.series,
            format_duration(max(60, round(row.every_s / 60) * 60)),
            format_ago(now - row.last_at),
            (row.late_since or now) < now,
        )
        for row in rows
    ]


def attention(config: Config, now: int) -> Iterator[Attention]:
    """For the first page; nothing where there was never a vault."""
    from appliance.vault.web import url  # it shows alerts itself

    try:
        with desk.opened(config):
            for alert in opened_ones():
                yield Attention(alert.text, url(alert.vault) if alert.vault else "/netbackup/copies")
    except UserError:
        return
