"""The vault as pages, the API and figures look at it: its catalogue opened, its files read, nothing written to disk."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

import peewee

from appliance.config import Config
from appliance.errors import Unavailable, UserError
from appliance.vault import catalog, diff, routeros
from appliance.vault.models import Refused, Version, vault_db
from appliance.vault.routeros import Verdict
from appliance.vault.store import Store

MAX_JUDGED_BYTES = 2 << 20  # in a list; larger exports are looked at on their own page
PIECE_BYTES = 256 << 10
_MOST_VERDICTS = 5000
_WHEN = "%Y-%m-%dT%H:%M:%S"

_lock = threading.Lock()
_stores: dict[str, Store] = {}
_verdicts: dict[tuple[str, str], Verdict] = {}


@contextlib.contextmanager
def opened(config: Config) -> Iterator[Store]:
    """The store, with the catalogue open in this thread. What it refuses becomes a line for people."""
    store = _store(config)
    mine = vault_db.is_closed()
    if mine:
        vault_db.connect()
    try:
        yield store
    except Refused as error:
        raise UserError(error.text) from None
    finally:
        if mine:
            vault_db.close()


def _store(config: Config) -> Store:
    """One a process; the catalogue is made by the vault itself, whose file it has to be."""
    where = str(catalog.path(config))
    with _lock:
        if where not in _stores or vault_db.obj is None or vault_db.obj.database != where:
            if not catalog.path(config).exists():
                raise Unavailable("the vault has no catalogue yet: it is made when its service starts")
            _stores.clear()
            _stores[where] = Store(config)
        return _stores[where]


def counted(field: Any, where: Any = True) -> dict[Any, int]:
    """Rows by a field's values."""
    return by(field, peewee.fn.COUNT(peewee.SQL("*")), where)


def by(field: Any, value: Any, where: Any = True) -> dict[Any, int]:
    query = field.model.select(field, value).group_by(field)
    rows: Any = (query if where is True else query.where(where)).tuples()
    return dict(rows)


# Times


def moment(text: str, zone: tzinfo) -> int | None:
    """UTC milliseconds of what a field for date and time sends, at its end; None for an empty one."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=zone)).timestamp() * 1000) + 999
    except (ValueError, OverflowError):
        raise UserError(f"{text[:40]!r} is no time: write 2027-01-31T18:00") from None


def as_typed(at_ms: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone).strftime(_WHEN)


def shown(at_s: float | None, zone: tzinfo) -> str:
    return "–" if at_s is None else datetime.fromtimestamp(at_s, zone).strftime("%Y-%m-%d %H:%M:%S")


# Files


def version_of(store: Store, vault: Any, number: str) -> Any:
    """Only of that vault; raises UserError."""
    found = Version.get_or_none((Version.id == int(number)) & (Version.vault == vault)) if _is_number(number) else None
    if found is None:
        raise UserError("there is no such version, or its time to be kept is over")
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def content(store: Store, version: Any, most: int) -> bytes:
    with store.open(version) as file:
        return file.read(most)


def sizes_before(store: Store, vault: Any, path: str, version: int) -> list[int]:
    """Of the versions at that path before one, the latest first."""
    found = [one.bytes for one in store.versions(vault, path) if one.id < version and one.confirmed]
    return found[: routeros.LOOKED_BACK]


def verdict(store: Store, vault: Any, path: str, version: Any) -> Verdict:
    """What a router's backup is worth; of anything else that it is none."""
    read = _judged(store, version, path.rpartition("/")[2])
    before = sizes_before(store, vault, path, version.id) if read.restorable is not None else []
    doubt, absurd = routeros.shrinkage(version.bytes, before)
    if not doubt:
        return read
    return read._replace(restorable=read.restorable and not absurd, doubts=(*read.doubts, doubt), alarm=True)


def worth(store: Store, vault: Any, path: str, version: Any) -> Verdict | None:
    """The same where many are shown: None for what can't be read."""
    try:
        return verdict(store, vault, path, version)
    except (Refused, OSError):
        return None


def _judged(store: Store, version: Any, name: str) -> Verdict:
    """Kept, as contents never change; a list has many of them."""
    key = str(version.sha256), name
    found = _verdicts.get(key)
    if found is None:
        with store.open(version) as file:
            head = file.read(256)
            whole = routeros.recognise(head, name).name == routeros.EXPORT
            more = file.read(routeros.MAX_EXPORT_BYTES) if whole else b""
        found = routeros.judge(head + more, version.bytes, name)
        with _lock:
            while len(_verdicts) >= _MOST_VERDICTS:
                _verdicts.pop(next(iter(_verdicts)))
            _verdicts[key] = found
    return found


def compared(store: Store, vault: Any, before: Any, after: Any) -> diff.Diff:
    """Raises UserError where that isn't possible."""
    texts = [content(store, version, diff.MAX_BYTES + 1) for version in (before, after)]
    export = all(
        routeros.recognise(text[:256], one.path).name == routeros.EXPORT
        for text, one in zip(texts, (before, after), strict=True)
    )
    return diff.compare(texts[0], texts[1], export)
