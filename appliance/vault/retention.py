"""What may go: versions that gave way so long ago that nobody asked for them to be kept, and contents of none."""

from typing import Any

import peewee

from appliance.vault import history, objects, settings
from appliance.vault.clock import DAY_MS
from appliance.vault.models import Credential, Event, Head, Object, Reservation, Span, Vault, Version
from appliance.vault.store import Store

AT_ONCE = 200  # in a turn, so that uploads needn't wait
MOST_EVENTS, EVENTS_AT_ONCE = 100_000, 5000  # of a vault in the catalogue; the manifest has all of them


def run(store: Store) -> int:
    """How many versions went. Raises UserError for settings of a backup that can't be read: by which, then?"""
    settings.read_back(store.state)
    gone = 0
    with store.turns.plain():  # the vault's clock is as of now
        pass
    for vault in Vault.select().where(Vault.removed_at.is_null(False)):
        history.empty(store, vault)
    for vault in _with_old(Head.get_by_id(1).age_ms):
        while count := _some(store, vault):
            gone += count
    erase(store)
    for vault in Vault.select().where(Vault.removed_at.is_null(False)):
        _forget(store, vault)
    for vault in Vault.select():
        _shorten(vault)
    return gone


def _with_old(age_ms: int) -> list[Any]:
    over = (Version.left_age <= age_ms - Vault.keep_days * DAY_MS) & (Version.locked_age <= age_ms)
    return list(Vault.select().join(Version).where(over).distinct())


def _some(store: Store, vault: Any) -> int:
    """How many went."""
    if not _over(vault, Head.get_by_id(1).age_ms).exists():
        return 0
    with store.turns.take() as turn:
        found = _over(store.fresh(vault), turn.head.age_ms).order_by(Version.id).limit(AT_ONCE)
        going = [version.id for version in found]
        if going:
            turn.add("expire", vault.name, versions=going)
    return len(going)


def _over(vault: Any, age_ms: int) -> Any:
    """Versions that nothing keeps any more."""
    over = (Version.left_age <= age_ms - vault.keep_days * DAY_MS) & (Version.locked_age <= age_ms)
    keep = 0 if vault.removed_at else vault.keep_versions
    recent = peewee.SQL(_RECENT.format(vault=int(vault.id), keep=int(keep)))
    return Version.select().where((Version.vault == vault) & over & Version.id.not_in(recent))


# The last ones before the present file, at any path where there is one.
_RECENT = """(
    SELECT version_id FROM (
        SELECT folder, name, version_id, row_number() OVER (PARTITION BY folder, name ORDER BY max(until_ms) DESC) AS r
        FROM span WHERE vault_id = {vault} AND version_id IS NOT NULL AND until_ms IS NOT NULL
        GROUP BY folder, name, version_id
    ) AS before
    WHERE r <= {keep} AND EXISTS (
        SELECT 1 FROM span AS present WHERE present.vault_id = {vault} AND present.folder = before.folder
        AND present.name = before.name AND present.version_id IS NOT NULL AND present.until_ms IS NULL
    )
)"""


def next_end_ms(vault: Any, version: Any) -> int | None:
    """When retention may erase a version at the soonest, in ms from now; None while it is the present one."""
    if version.left_age is None:
        return None
    age_ms = Head.get_by_id(1).age_ms
    return int(max(version.left_age + vault.keep_days * DAY_MS, version.locked_age) - age_ms)


def erase(store: Store) -> int:
    """Contents that no version has any more. With the turn, as an upload may just bring the same one."""
    count = 0
    while _unused().exists():
        with store.turns.take():
            found = list(_unused().limit(AT_ONCE))
            for item in found:
                objects.erase(store.place(), item.sha256)
                item.delete_instance()
        count += len(found)
    return count


def _unused() -> Any:
    return Object.select().where(~peewee.fn.EXISTS(Version.select().where(Version.sha256 == Object.sha256)))


def _shorten(vault: Any) -> None:
    """Lists of events go back only so far."""
    of = Event.select(Event.n).where(Event.vault == vault)
    last = of.order_by(Event.n.desc()).offset(MOST_EVENTS).limit(1).scalar()
    while last is not None and (some := list(of.where(Event.n <= last).order_by(Event.n).limit(EVENTS_AT_ONCE))):
        Event.delete().where((Event.vault == vault) & (Event.n <= some[-1].n)).execute()


def _forget(store: Store, vault: Any) -> None:
    if Version.select().where(Version.vault == vault).exists():
        return
    with store.turns.take():
        for model in (Span, Event, Reservation, Credential):
            model.delete().where(model.vault == vault).execute()
        vault.delete_instance()
