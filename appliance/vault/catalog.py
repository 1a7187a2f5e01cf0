"""From a record of the manifest to the catalogue: the same function for what happens now and for what is read anew."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import peewee

from appliance import db
from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import manifest, paths
from appliance.vault.models import GOOD, Head, Span, Vault, Version, sql, vault_db

STATE, FILE, DISK = "vault", "vault.db", "vault"  # below `paths.state`, and on the data disk
SETTINGS = "settings.json"  # beside it, for backups
_UNKNOWN_DAYS = 36_500
_BUSY_MS = 20_000

Record = Mapping[str, Any]


def path(config: Config) -> Path:
    return config.paths.state / STATE / FILE


def bind(config: Config) -> None:
    """Makes the catalogue where it isn't there yet; each thread has a connection of its own."""
    file = path(config)
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: there is no vault yet: run `gatehouse enable netbackup`")
    vault_db.initialize(db.connect(f"sqlite:///{file}", _BUSY_MS))
    with vault_db.connection_context():
        db.migrate(vault_db.obj, db.migrations("appliance.vault.migrations"))
        _begin(file.parent)
    if file.stat().st_uid == os.geteuid():
        file.chmod(0o660)  # the admin's pages write it too; -wal and -shm take the database's mode


def _begin(folder: Path) -> None:
    """A new catalogue has the settings that a restore has put there. Raises UserError where they can't be read."""
    if Head.select().exists():
        return
    from appliance.vault import settings  # loads argon2, which no other look at the catalogue needs

    with vault_db.atomic():
        Head.insert(id=1, n=0, sha256=manifest.START, bytes=0, at_ms=0, age_ms=0).on_conflict_ignore().execute()
        settings.read_back(folder)


def apply(record: Record) -> None:
    """One event. It was allowed when it was written, so that nothing is asked here."""
    vault = _vault(record["vault"])
    EVENTS[record["event"]](vault, record)
    sql(
        "INSERT INTO event (n, vault_id, at_ms, event, path, target, version_id, bytes, login, address)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(record["n"], vault, record["at"], record["event"], record.get("path", ""), record.get("target", "")),
        *(record.get("version"), record.get("bytes"), record.get("login", ""), record.get("address", "")),
    )


def _vault(name: str) -> int:
    """One that the manifest alone names keeps all it has until somebody says how long, or a backup does."""
    row = sql("SELECT id FROM vault WHERE name = ?", name).fetchone()
    return int(row[0] if row else _unknown(name).id)


def _unknown(name: str) -> Any:
    return Vault.create(name=name, created_at=int(time.time()), keep_days=_UNKNOWN_DAYS)


class Present(NamedTuple):
    """What is at a path now; a folder has no version."""

    id: int
    version_id: int | None
    modified_s: int


def now_at(vault: Any, where: str) -> Present | None:
    """`vault` may be its number."""
    folder, name = paths.split(where)
    text = "SELECT id, version_id, modified_s FROM span WHERE vault_id = ? AND folder = ? AND name = ?"
    row = sql(f"{text} AND until_ms IS NULL", getattr(vault, "id", vault), folder, name).fetchone()
    return Present(*row) if row else None


_PRESENT = Span.until_ms.is_null()


def _store(vault: int, record: Record) -> None:
    _version(vault, record, True)
    _show(vault, record, record["version"])


def _unconfirmed(vault: int, record: Record) -> None:
    _version(vault, record, False)


def version_of(vault: Any, record: Record) -> Any:
    """The version that a record has just brought."""
    confirmed = record["event"] == "store"
    left = None if confirmed else record["age"]
    same = {key: record.get(key, "") for key in ("path", "sha256", "bytes", "why", "login", "address")}
    when = {"stored_ms": record["at"], "stored_age": record["age"], "left_age": left}
    locked = record.get("locked", 0)
    return Version(id=record["version"], vault=vault, confirmed=confirmed, locked_age=locked, **same, **when)


def _version(vault: int, record: Record, confirmed: bool) -> None:
    at_s = record["at"] // 1000
    sql(
        "INSERT INTO object (sha256, bytes, stored_at, verified_at, state) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (sha256) DO UPDATE SET state = excluded.state, verified_at = excluded.verified_at",
        *(record["sha256"], record["bytes"], at_s, at_s, GOOD),  # one that was there is written anew
    )
    sql(
        "INSERT INTO version (id, vault_id, path, sha256, bytes, confirmed, why, stored_ms, stored_age, left_age,"
        " locked_age, login, address) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(record["version"], vault, record["path"], record["sha256"], record["bytes"], confirmed),
        *(record.get("why", ""), record["at"], record["age"], None if confirmed else record["age"]),
        *(record.get("locked", 0), record.get("login", ""), record.get("address", "")),
    )
    _use(vault, record["bytes"], 0)


def _show(vault: int, record: Record, version: int) -> None:
    """A version becomes the present one of a path, whose folders are made where they are missing."""
    where = record["path"]
    for folder in paths.parents(where):
        if now_at(vault, folder) is None:
            _open(vault, folder, None, record["at"] // 1000, record["at"])
    _close(vault, where, record)
    _open(vault, where, version, record.get("modified", record["at"] // 1000), record["at"])
    sql("UPDATE version SET left_age = NULL, confirmed = ? WHERE id = ?", True, version)
    _use(vault, 0, 1)


def _open(vault: int, where: str, version: int | None, modified_s: int, at_ms: int) -> None:
    folder, name = paths.split(where)
    sql(
        "INSERT INTO span (vault_id, folder, name, version_id, modified_s, from_ms) VALUES (?, ?, ?, ?, ?, ?)",
        *(vault, folder, name, version, modified_s, at_ms),
    )


def _close(vault: int, where: str, record: Record) -> None:
    span = now_at(vault, where)
    if span is not None:
        sql("UPDATE span SET until_ms = ? WHERE id = ?", record["at"], span.id)
        if span.version_id is not None:
            _use(vault, 0, -1)
            _left(span.version_id, record["age"])


def _left(version: int, age_ms: int) -> None:
    """Unless it is still seen somewhere else."""
    sql(
        "UPDATE version SET left_age = ? WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM span WHERE version_id = version.id AND until_ms IS NULL)",
        *(age_ms, version),
    )


def _use(vault: int, size: int, files: int) -> None:
    text = "UPDATE vault SET used_bytes = used_bytes + ?, used_files = used_files + ? WHERE id = ?"
    sql(text, size, files, vault)


def _gone(vault: int, record: Record) -> None:
    _close(vault, record["path"], record)


def _rename(vault: int, record: Record) -> None:
    """A file takes the place of one that is there; of a folder all goes with it."""
    where, target, at_ms = record["path"], record["target"], record["at"]
    span = _there(vault, record)
    if span.version_id is not None:
        _close(vault, target, record)
    for folder in paths.parents(target):
        if now_at(vault, folder) is None:
            _open(vault, folder, None, at_ms // 1000, at_ms)
    Span.update(until_ms=at_ms).where(Span.id == span.id).execute()
    _open(vault, target, span.version_id, span.modified_s, at_ms)
    if span.version_id is None:
        _move_below(vault, where, target, at_ms)


def _move_below(vault: int, where: str, target: str, at_ms: int) -> None:
    within = (Span.folder == where) | ((Span.folder >= f"{where}/") & (Span.folder < f"{where}0"))  # 0 follows /
    moved = (Span.vault == vault) & within
    Span.update(until_ms=at_ms).where(moved & _PRESENT).execute()
    folder = peewee.Value(target).concat(peewee.fn.substr(Span.folder, len(where) + 1))
    columns = (Span.vault, folder, Span.name, Span.version, Span.modified_s, peewee.Value(at_ms))
    Span.insert_from(
        Span.select(*columns).where(moved & (Span.until_ms == at_ms)),
        fields=[Span.vault, Span.folder, Span.name, Span.version, Span.modified_s, Span.from_ms],
    ).execute()


def _make_folder(vault: int, record: Record) -> None:
    for folder in [*paths.parents(record["path"]), record["path"]]:
        if now_at(vault, folder) is None:
            _open(vault, folder, None, record["at"] // 1000, record["at"])


def _restore(vault: int, record: Record) -> None:
    _show(vault, record, record["version"])


def _there(vault: int, record: Record) -> Present:
    span = now_at(vault, record["path"])
    if span is None:
        raise manifest.Broken(f"record {record['n']}: there is nothing at {record['path']}")
    return span


def _touch(vault: int, record: Record) -> None:
    Span.update(modified_s=record["modified"]).where(Span.id == _there(vault, record).id).execute()


def _expire(vault: int, record: Record) -> None:
    gone = Version.id.in_(record["versions"])
    size = Version.select(peewee.fn.SUM(Version.bytes)).where(gone).scalar() or 0
    Span.delete().where(Span.version.in_(record["versions"])).execute()
    Version.delete().where(gone).execute()
    _use(vault, -size, 0)


def _lock(vault: int, record: Record) -> None:
    """Locks only grow."""
    later = (Version.id == record["version"]) & (Version.locked_age < record["locked"])
    Version.update(locked_age=record["locked"]).where(later).execute()


EVENTS: dict[str, Callable[[int, Record], None]] = {
    "store": _store,
    "unconfirmed": _unconfirmed,
    "delete": _gone,
    "rmdir": _gone,
    "rename": _rename,
    "mkdir": _make_folder,
    "restore": _restore,
    "touch": _touch,
    "expire": _expire,
    "lock": _lock,
}
