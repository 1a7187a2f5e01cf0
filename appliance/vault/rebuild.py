"""The catalogue made anew from the manifest, and the manifest proven against the contents."""

from pathlib import Path
from typing import NamedTuple

from appliance.errors import UserError
from appliance.vault import catalog, manifest, objects
from appliance.vault.manifest import Manifest
from appliance.vault.models import MISSING, Event, Head, Object, Span, Vault, Version, vault_db
from appliance.vault.redo import Redo
from appliance.vault.turns import put_back


class Report(NamedTuple):
    events: int
    versions: int
    missing: int


def rebuild(place: Path, shorter: bool = False) -> Report:
    """In one transaction, so that it is either the old or the new one. Limits and log-ins stay where there are any.

    Raises UserError for a manifest that isn't whole, or without `shorter` says less than the catalogue knows.
    """
    known = Head.get_by_id(1).n
    log = Redo()
    with vault_db.atomic(), Manifest(place) as file, log.opened(place) as has_log:
        missed = log.follow(place, file) if has_log else []
        clean()
        head = Head.get_by_id(1)
        try:
            for line in file.lines():
                catalog.apply(line.record)
                head.n, head.sha256, head.bytes = line.record["n"], line.sha256, line.end
                head.at_ms, head.age_ms = line.record["at"], max(head.age_ms, line.record["age"])
        except manifest.Broken as error:
            raise UserError(f"the manifest is broken: {error}: take the second copy's") from None
        if head.n < known and not shorter:
            raise UserError(f"the manifest has {head.n} events, the catalogue {known}: is it the right disk?")
        head.save()
        put_back(place, missed)
        used = Object.sha256.in_(Version.select(Version.sha256))
        missing = [o.sha256 for o in Object.select().where(used) if not objects.is_there(place, o.sha256, o.bytes)]
        for sha256 in missing:
            Object.update(state=MISSING).where(Object.sha256 == sha256).execute()
        return Report(head.n, Version.select().count(), len(missing))


def clean() -> None:
    for model in (Span, Version, Event, Object):
        model.delete().execute()
    Vault.update(used_bytes=0, used_files=0).execute()
    head = Head.get_by_id(1)
    head.n, head.sha256, head.bytes, head.at_ms = 0, manifest.START, 0, 0
    head.save()


class Proof(NamedTuple):
    """`head` is the hash of the manifest's last line; `problem` is empty when all fits."""

    events: int
    head: str
    problem: str


def prove(place: Path) -> Proof:
    """Whether the manifest is whole, and is the one that the catalogue follows from."""
    head = Head.get_by_id(1)
    n, last, seen = 0, manifest.START, head.n == 0
    try:
        with Manifest(place, write=False) as file:
            for line in file.lines():
                n, last = line.record["n"], line.sha256
                seen |= n == head.n and last == head.sha256
    except (OSError, manifest.Broken) as error:
        return Proof(n, last, str(error))
    return Proof(n, last, "" if seen else "the catalogue follows from another manifest: see `gatehouse vault rebuild`")
