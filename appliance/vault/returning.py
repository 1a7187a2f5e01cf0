"""A fresh appliance gets its vaults back from a copy: contents first, then the manifest, then the catalogue of it."""

from appliance.errors import UserError
from appliance.vault import following, manifest, rebuild
from appliance.vault.following import Limits
from appliance.vault.manifest import Line, Manifest
from appliance.vault.models import Head, vault_db
from appliance.vault.pieces import Original
from appliance.vault.rebuild import Report
from appliance.vault.store import Store

_COPIED_BYTES = 1 << 20


def bring_back(store: Store, original: Original, limits: Limits) -> Report:
    """What was cut off goes on when it is done again. Raises UserError where there is something already."""
    place = store.place()
    _is_fresh(store)
    start = Line({"n": 0}, manifest.START, 0)
    with following.alone(place):
        head = original.head()
        with following.incoming(original, place, start, head, limits) as new:
            wanted = {}
            for record in (line.record for line in new.lines()):
                if "sha256" in record:
                    wanted[record["sha256"]] = record["bytes"]
            following.fetch_all(original, place, wanted, limits)
            _take(store, new)
    return rebuild.rebuild(place)


def _is_fresh(store: Store) -> None:
    with Manifest(store.place()) as own:
        if own.size or Head.get_by_id(1).n:
            raise UserError("the vault here has a history of its own: only a fresh one can be brought back")


def _take(store: Store, new: Manifest) -> None:
    """While nobody stores anything; the catalogue follows from it then, whatever happens to this process."""
    with vault_db.atomic(), Manifest(store.place()) as own:
        _is_fresh(store)
        for at in range(0, new.size, _COPIED_BYTES):
            own.append(new.at(at, _COPIED_BYTES), at)
