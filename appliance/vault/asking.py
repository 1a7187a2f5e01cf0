"""Changes that the admin's pages make: they may read what is on the data disk, but only the vault's own user writes it.

So they ask by a row of the catalogue, and the keeper does it within a second.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from appliance.errors import Unavailable, UserError
from appliance.vault import history, scrub
from appliance.vault.models import Asked, Refused, Vault, Who
from appliance.vault.store import Store

WAIT_S = 20.0
_LOOK_S = 0.1
_FORGET_MS = 3_600_000
_BEGUN = "{}"

log = logging.getLogger(__name__)


def ask(verb: str, who: str, wait_s: float = WAIT_S, **arguments: Any) -> Any:
    """What came of it. Raises UserError with the refusal, Unavailable where nobody answers in time.

    `undelete` version, path · `restore_view` vault, at · `remove` vault, path · `rename` vault, path, target ·
    `make_folder` vault, path · `remove_folder` vault, path · `verify` sha256, bytes
    """
    text = json.dumps(arguments | {"who": who})
    row = Asked.create(verb=verb, arguments=text, at_ms=_now_ms())
    end_s = time.monotonic() + wait_s
    while time.monotonic() < end_s:
        said = json.loads(Asked.get_by_id(row.id).answer or "{}")
        if "refused" in said:
            raise UserError(said["refused"])
        if "done" in said:
            return said["done"]
        time.sleep(_LOOK_S)
    if Asked.delete().where((Asked.id == row.id) & Asked.answer.is_null()).execute():
        raise Unavailable("the vault's keeper doesn't answer: see `gatehouse status`")
    raise Unavailable("it isn't done yet, and goes on: look again in a while")


def answer(store: Store) -> int:
    """The keeper's part; returns how many there were. Who gave up waiting took it away: then nothing is done."""
    waiting = list(Asked.select().where(Asked.answer.is_null()).order_by(Asked.id))
    for row in waiting:
        if Asked.update(answer=_BEGUN).where((Asked.id == row.id) & Asked.answer.is_null()).execute():
            Asked.update(answer=json.dumps(_done(store, row))).where(Asked.id == row.id).execute()
    if waiting:
        Asked.delete().where(Asked.at_ms < _now_ms() - _FORGET_MS).execute()
    return len(waiting)


def _done(store: Store, row: Any) -> dict[str, Any]:
    try:
        arguments = json.loads(row.arguments)
        return {"done": VERBS[row.verb](store, arguments, Who(login=str(arguments["who"])))}
    except Refused as refused:
        return {"refused": refused.text}
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s: %r", row.verb, error)
        return {"refused": "that can't be asked for"}


def _vault(arguments: Mapping[str, Any]) -> Any:
    found = Vault.get_or_none(Vault.name == arguments["vault"])
    if found is None:
        raise Refused(550, "there is no such vault")
    return found


def _undelete(store: Store, arguments: Mapping[str, Any], who: Who) -> None:
    history.undelete(store, store.version(int(arguments["version"])), arguments.get("path"), who)


def _restore_view(store: Store, arguments: Mapping[str, Any], who: Who) -> int:
    return history.restore_view(store, _vault(arguments), int(arguments["at"]), who)


def _verify(store: Store, arguments: Mapping[str, Any], who: Who) -> bool:
    return scrub.check(store, str(arguments["sha256"]), int(arguments["bytes"]), int(time.time()))


VERBS: dict[str, Callable[[Store, Mapping[str, Any], Who], Any]] = {
    "undelete": _undelete,
    "restore_view": _restore_view,
    "remove": lambda store, a, who: store.remove(_vault(a), a["path"], who),
    "rename": lambda store, a, who: store.rename(_vault(a), a["path"], a["target"], who),
    "make_folder": lambda store, a, who: store.make_folder(_vault(a), a["path"], who),
    "remove_folder": lambda store, a, who: store.remove_folder(_vault(a), a["path"], who),
    "verify": _verify,
}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
