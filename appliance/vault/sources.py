"""Whose vaults this appliance keeps a copy of: pulled from there, verified, and erased by nobody but its own root.

Each lies below `vault/replicas/NAME` of the data disk, laid out as a vault. What the other side erases stays here, so
that somebody who has taken that over can't empty this one.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee

from appliance.errors import UserError
from appliance.units import format_ago
from appliance.vault import following, manifest, objects, replica, signing, vaults
from appliance.vault.following import Later, Limits, Rewritten
from appliance.vault.manifest import Manifest
from appliance.vault.models import Chore, Refused, VaultModel
from appliance.vault.offers import COPIES
from appliance.vault.peer import Peer, Stranger, parsed
from appliance.vault.pieces import Head
from appliance.vault.scrub import Pace
from appliance.vault.store import Store

JOB = "sources"  # of the keeper
SHORTEST_DAYS = 30
BUDGET_S = 1800.0  # before another one has its turn
BEHIND_S = 6 * 3600


class Source(VaultModel):
    """`key` is the one of its vault, in hex, by which it is known; `keep_days` is how long is kept here what is erased
    there, None for ever. Of the copy `head` is how far it is, `bytes` what its contents take; `heard_at` is when the
    other side last proved who it is. `broken` says that its history isn't what it was, `held` that more would be erased
    here than is done unasked, `problem` what the last try met.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    url = peewee.TextField()
    key = peewee.TextField()
    token = peewee.TextField()
    rate_bps = peewee.BigIntegerField(default=0)
    quota_bytes = peewee.BigIntegerField(null=True)
    keep_days = peewee.IntegerField(null=True)
    added_at = peewee.BigIntegerField()
    head_n = peewee.BigIntegerField(default=0)
    head = peewee.TextField(default=manifest.START)
    head_bytes = peewee.BigIntegerField(default=0)
    heard_at = peewee.BigIntegerField(null=True)
    pulled_at = peewee.BigIntegerField(null=True)
    verified_at = peewee.BigIntegerField(null=True)
    cursor = peewee.TextField(default="")
    bytes = peewee.BigIntegerField(default=0)
    bad = peewee.IntegerField(default=0)
    missing = peewee.IntegerField(default=0)
    broken = peewee.TextField(default="")
    held = peewee.TextField(default="")
    problem = peewee.TextField(default="")

    class Meta:
        only_save_dirty = True  # a command may change the rest meanwhile


def named(name: str) -> Any:
    found = Source.get_or_none(Source.name == name)
    if found is None:
        raise UserError(f"there is no copy {name!r} of another appliance here")
    return found


def rows() -> list[Any]:
    return list(Source.select().order_by(Source.name))


def add(
    name: str,
    url: str,
    key: str,
    token: str,
    rate_bps: int = 0,
    quota_bytes: int | None = None,
    keep_days: int | None = None,
) -> str:
    """Returns the key that it is known by from now on: the one that was given, else the one that it shows itself.

    One of that name goes on with its copy. Raises UserError.
    """
    if not vaults.NAME.fullmatch(name):
        raise UserError(f"{name!r}: a name has a-z, 0-9, '.', '_' and '-', at most 63, and begins with a-z or 0-9")
    parsed(url)
    if not token.isascii() or not token.isprintable() or not 20 <= len(token) <= 200:
        raise UserError("that is no token: `gatehouse vault offer` at the other side prints it")
    if keep_days is not None and not SHORTEST_DAYS <= keep_days <= 36_500:
        raise UserError(
            f"keep days: {SHORTEST_DAYS} to 36500, so that somebody can notice in time what is erased there"
        )
    known = Source.get_or_none(Source.name == name)
    peer = Peer(url, key or (known.key if known else ""), token)
    try:
        met = peer.meet()
    finally:
        peer.close()
    values: dict[str, Any] = {"url": url, "key": met, "token": token, "rate_bps": rate_bps}
    values |= {"quota_bytes": quota_bytes, "keep_days": keep_days}
    if known is None:
        Source.create(name=name, added_at=int(time.time()), **values)
    else:
        Source.update(values).where(Source.id == known.id).execute()
    Chore.delete().where(Chore.name == JOB).execute()  # so that the keeper begins with it now
    return met


def remove(store: Store, name: str, erase: bool) -> Path:
    """The copy itself stays unless it is said that it goes. Returns its place."""
    source, place = named(name), place_of(store, name)
    source.delete_instance()
    if erase:
        shutil.rmtree(place, ignore_errors=True)
    return place


def place_of(store: Store, name: str) -> Path:
    return store.readable() / COPIES / name


def _made(store: Store, name: str) -> Path:
    """Raises Refused while the disk is away."""
    own = store.place()
    place = own / COPIES / name
    if not (place / objects.OBJECTS / "ff").is_dir():  # the last that is made
        for path in (own / COPIES, place):
            objects.make_folder(path, own)
        objects.make_folders(place)
    return place


def peer_of(source: Any) -> Peer:
    peer = Peer(source.url, source.key, source.token)
    times = {"pulled_at": source.pulled_at or 0, "verified_at": source.verified_at or 0}
    peer.state = {"n": source.head_n, "bad": source.bad + source.missing, **times}
    return peer


def pull(store: Store, source: Any, now: int, budget_s: float = float("inf"), step: Any = None) -> int:
    """Returns how many events came. Raises UserError, which is kept as what is wrong with it."""
    peer, limits, count = peer_of(source), _limits(source, budget_s), 0
    limits.step = step or limits.step
    try:
        count = _pull(store, source, peer, limits)
        source.problem = source.broken = ""
        source.pulled_at = min(now, peer.said["at"])
    except Later:
        source.problem = ""
    except (Rewritten, Stranger, manifest.Broken) as error:
        source.broken = source.problem = str(error)
        raise UserError(f"{source.name}: {error}") from None
    except (OSError, ValueError, Refused, UserError) as error:
        source.problem = str(error)
        raise UserError(f"{source.name}: {error}") from None
    finally:
        peer.close()
        source.heard_at = now if peer.spoke else source.heard_at
        source.bytes += limits.spent
        source.save()
    return count


def _limits(source: Any, budget_s: float) -> Limits:
    pace = Pace(source.rate_bps / 8) if source.rate_bps else None
    room = None if source.quota_bytes is None else max(0, source.quota_bytes - source.bytes)
    return Limits(pace, room, time.monotonic() + budget_s)


def _pull(store: Store, source: Any, peer: Peer, limits: Limits) -> int:
    place = _made(store, source.name)

    def took(head: Head) -> None:
        source.head_n, source.head, source.head_bytes = head
        source.save(only=[Source.head_n, Source.head, Source.head_bytes])

    taken = following.follow(peer, place, limits, Head(source.head_n, source.head, source.head_bytes), took)
    source.head_n, source.head, source.head_bytes = (peer.said[key] for key in ("n", "sha256", "bytes"))
    if taken.missing:
        source.missing = len(following.absent(place))
    if signing.read(place) != peer.said:
        signing.write(place, peer.said)
    following.sweep(place)
    return taken.events


def _signed_at(place: Path) -> tuple[int, str] | None:
    said = signing.read(place)
    return (said["n"], said["sha256"]) if said else None


def pull_all(store: Store, now: int) -> None:
    """Each has its turn, whatever is wrong with another. Raises UserError with what is wrong with them."""
    _each(lambda source: pull(store, source, now, BUDGET_S))


def verify_all(store: Store, now: int, pace: Pace | None, budget_s: float) -> None:
    _each(lambda source: verify(store, source, now, pace, budget_s))


def _each(do: Any) -> None:
    wrong = []
    for source in rows():
        try:
            do(source)
        except (OSError, manifest.Broken, Refused, UserError) as error:
            wrong.append(str(error))
    if wrong:
        raise UserError("; ".join(wrong))


def verify(store: Store, source: Any, now: int, pace: Pace | None, budget_s: float) -> int:
    """Goes on reading the copy's contents; what is bad or missing comes anew, if it can.

    Returns how many aren't good all the same.
    """
    place = _made(store, source.name)
    with following.alone(place):
        replica.verify_place(place, source, now, pace, budget_s)
        whole = not source.cursor
        if whole:
            source.bytes = _size(place)
            _prove(source, place)
        if whole or source.bad or source.missing:
            _mend(source, place, _limits(source, budget_s))
        source.save()
    return int(source.bad + source.missing)


def _prove(source: Any, place: Path) -> None:
    """The whole manifest, of which pulls look at what is new. Raises Broken."""
    try:
        with Manifest(place, write=False) as file:
            following.last_of(file, known=_signed_at(place))
    except manifest.Broken as error:
        source.broken = str(error)
        source.save()
        raise


def _mend(source: Any, place: Path, limits: Limits) -> None:
    wanted, peer = following.absent(place), peer_of(source)
    source.bad, source.missing = 0, len(wanted)
    try:
        source.missing = len(following.fetch_all(peer, place, wanted, limits))
    except Later:
        source.missing = len(following.absent(place))
    except UserError:
        source.save()
        raise
    finally:
        peer.close()


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in (place / objects.OBJECTS).glob("*/*"))


def alarms(now: int) -> Iterator[tuple[str, str, bool]]:
    """Name, a sentence, and whether somebody has changed what was."""
    for source in rows():
        if source.broken:
            yield source.name, f"the copy of {source.name} takes nothing over: {source.broken}", True
            continue
        if source.held:
            yield source.name, f"the copy of {source.name}: {source.held}", True
        since = source.pulled_at or source.added_at
        if since < now - BEHIND_S:
            text = f"the copy of {source.name} last followed {format_ago(now - since)}: {_why(source)}"
            yield source.name, text, False
        elif source.missing or source.bad:
            text = f"{source.missing + source.bad} contents of the copy of {source.name} are bad or missing"
            yield source.name, text, False


def _why(source: Any) -> str:
    return str(source.problem) or "it has not been done yet"
