"""The gateway's own memory: sessions, and accounting events that nobody has acknowledged yet."""

import dataclasses
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from appliance import db
from portal.radius import AccountingRecord

KEEP_ENDED_S = 3600
FIRST_MINOR, LAST_MINOR = 0x10, 0xFFFE  # HTB classes for sessions


def closed_mark(state: Path) -> Path:
    """Stands there when the hotspot was closed while no gateway ran."""
    return state / "gateway" / "closed"


class Amount(NamedTuple):
    """IP octets and packets in one direction."""

    octets: int = 0
    packets: int = 0


class Counters(NamedTuple):
    """IP octets and packets as the guest sees them: down is what came to the guest."""

    down_octets: int = 0
    up_octets: int = 0
    down_packets: int = 0
    up_packets: int = 0

    @classmethod
    def of(cls, down: Amount, up: Amount) -> "Counters":
        return cls(down.octets, up.octets, down.packets, up.packets)

    @property
    def octets(self) -> int:
        return self.down_octets + self.up_octets

    def plus(self, other: "Counters") -> "Counters":
        return Counters(*(mine + its for mine, its in zip(self, other, strict=True)))

    def minus(self, other: "Counters") -> "Counters":
        return Counters(*(mine - its for mine, its in zip(self, other, strict=True)))

    def at_least(self, other: "Counters") -> "Counters":
        return Counters(*map(max, self, other))


ZERO = Counters()


@dataclass
class Session:
    """One guest online. `*_boot_s` are seconds of CLOCK_BOOTTIME within the boot named by `boot_id`.

    `minor` is the number of its HTB classes. `used` is the last total that was read, `base` what was used before
    the kernel's counters began, below 0 where they go on from another session. `quota_bytes` is the total at which
    the session ends, or with `quota_reports` is only reported: the server then says what becomes of it.
    """

    id: str
    ip: IPv4Address
    mac: str
    account: str
    session_class: str
    address: IPv4Address | None
    minor: int
    down_bps: int
    up_bps: int
    idle_timeout_s: int | None
    quota_bytes: int | None
    interim_interval_s: int
    started_boot_s: float
    deadline_boot_s: float | None
    boot_id: str
    saved_at: int = 0
    saved_boot_s: float = 0.0
    used: Counters = ZERO
    base: Counters = ZERO
    quota_reports: bool = False

    def count(self, counted: Counters) -> None:
        """What the kernel's counters show now. One that began anew, or is gone and shows 0, takes nothing away."""
        self.used = self.used.at_least(self.base.plus(counted))
        self.base = self.used.minus(counted)


@dataclass(frozen=True)
class Ended:
    """The last session of an address, kept for an hour so that the portal can say why it ended."""

    session: Session
    ended_at: int
    cause: int


class Event(NamedTuple):
    id: int
    record: AccountingRecord


class Store:
    """SQLite; each method is one transaction unless it runs inside `batch`, durable if the store is."""

    def __init__(self, path: Path, durable: bool = True) -> None:
        self._database: Any = db.connect(f"sqlite:///{path}", durable=durable)
        self._queued = False

    def open(self) -> None:
        """Raises UserError when a newer program has changed more than this one can work with."""
        self._database.connect(reuse_if_open=True)
        db.migrate(self._database, db.migrations("portal.migrations"))

    def close(self) -> None:
        self._database.close()

    def batch(self) -> AbstractContextManager[Any]:
        """Several changes, one commit."""
        atomic: AbstractContextManager[Any] = self._database.atomic()
        return atomic

    def online(self) -> list[Session]:
        rows = self._execute("SELECT body FROM session WHERE ended_at IS NULL ORDER BY id")
        return [_session(body) for (body,) in rows]

    def begin(self, session: Session, start: AccountingRecord) -> None:
        with self.batch():
            self.save(session)
            self._queue(start)

    def save(self, session: Session) -> None:
        self._execute(
            "INSERT INTO session (id, ip, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            session.id,
            str(session.ip),
            _json(session),
        )

    def interim(self, session: Session, record: AccountingRecord) -> None:
        """The newest interim replaces one that is still waiting."""
        with self.batch():
            self.save(session)
            self._drop_interim(session.id)
            self._queue(record)

    def end(self, session: Session, ended_at: int, cause: int, stop: AccountingRecord) -> None:
        with self.batch():
            self.save(session)
            sql = "UPDATE session SET ended_at = ?, cause = ? WHERE id = ?"
            self._execute(sql, ended_at, cause, session.id)
            self._drop_interim(session.id)
            self._queue(stop)

    def last_ended(self, ip: IPv4Address) -> Ended | None:
        row = self._execute(
            "SELECT body, ended_at, cause FROM session WHERE ip = ? AND ended_at IS NOT NULL"
            " ORDER BY ended_at DESC, id DESC LIMIT 1",
            str(ip),
        ).fetchone()
        return Ended(_session(row[0]), row[1], row[2]) if row else None

    def forget_ended(self, now: int) -> None:
        self._execute("DELETE FROM session WHERE ended_at < ?", now - KEEP_ENDED_S)

    def queued(self) -> bool:
        """Whether events came since the last time this was asked."""
        queued, self._queued = self._queued, False
        return queued

    def waiting(self, limit: int) -> list[Event]:
        """The oldest event of each session, so that Start goes before Stop."""
        rows = self._execute(
            "SELECT id, record FROM outbox WHERE id IN (SELECT min(id) FROM outbox GROUP BY session_id)"
            " ORDER BY id LIMIT ?",
            limit,
        )
        return [Event(number, _record(text)) for number, text in rows.fetchall()]

    def sent(self, event: Event) -> None:
        self._execute("DELETE FROM outbox WHERE id = ?", event.id)

    def _queue(self, record: AccountingRecord) -> None:
        self._queued = True
        self._execute(
            "INSERT INTO outbox (session_id, status, record) VALUES (?, ?, ?)",
            record.session_id,
            record.status,
            _json(record),
        )

    def _drop_interim(self, session_id: str) -> None:
        self._execute("DELETE FROM outbox WHERE session_id = ? AND status = 'Interim-Update'", session_id)

    def _execute(self, sql: str, *values: object) -> Any:
        return self._database.execute_sql(sql, values)


def _json(item: Session | AccountingRecord) -> str:
    fields: Iterable[dataclasses.Field[Any]] = dataclasses.fields(item)
    return json.dumps({field.name: getattr(item, field.name) for field in fields}, default=str)


def _session(body: str) -> Session:
    values = json.loads(body)
    for key in ("used", "base"):
        values[key] = Counters(*values[key])
    return Session(**_addresses(values))


def _record(text: str) -> AccountingRecord:
    return AccountingRecord(**_addresses(json.loads(text)))


def _addresses(values: dict[str, Any]) -> dict[str, Any]:
    for key in ("ip", "address"):
        values[key] = IPv4Address(values[key]) if values[key] else None
    return values
