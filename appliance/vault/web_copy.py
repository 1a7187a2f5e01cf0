"""What another appliance that keeps a copy asks: how far the vaults go, their manifest, and contents that it names.

By a token of offers.py, which is good for these addresses only; a piece at a time, so that nobody who is slow holds a
thread of the admin's process.
"""

import json
from collections.abc import Callable
from typing import Any

from appliance.admin import way_in
from appliance.admin.frame import Ask, Page
from appliance.errors import UserError
from appliance.vault import desk, offers
from appliance.vault.peer import ROOT
from appliance.vault.pieces import MOST, Folder
from appliance.vault.store import Store

_BYTES = "application/octet-stream"
Handler = Callable[..., bytes]


def _answer(ask: Ask, said: object, status: int = 200) -> bytes:
    return ask.data(json.dumps(said).encode(), "application/json", status)


def statement(ask: Ask) -> bytes:
    """Signed by the vault's key: which certificate these pages show. For everybody."""
    with desk.opened(ask.config) as store:
        found = offers.statement(store)
    return _answer(ask, found) if found else _answer(ask, {"error": "nothing is offered here"}, 404)


def _offered(handler: Handler) -> Callable[..., bytes]:
    def answered(ask: Ask, **parts: str) -> bytes:
        try:
            with desk.opened(ask.config) as store:
                offer = offers.find(ask.bearer(), way_in.address(), ask.now)
                if offer is None:
                    return _answer(ask, {"error": "no token that is good here"}, 401)
                return handler(ask, store, offer, **parts)
        except (UserError, OSError) as error:
            return _answer(ask, {"error": error.strerror if isinstance(error, OSError) else str(error)}, 503)

    return answered


def _head(ask: Ask, store: Store, offer: Any) -> bytes:
    form = ask.form()
    offers.told(offer, {key: _number(form.get(key, "")) for key in offers.TOLD}, ask.now)
    return _answer(ask, offers.head(store, offer))


def _manifest(ask: Ask, store: Store, offer: Any) -> bytes:
    return ask.data(Folder(offers.place_of(store, offer)).manifest(_at(ask)), _BYTES)


def _content(ask: Ask, store: Store, offer: Any, sha256: str) -> bytes:
    found = offers.content(store, offer, sha256, _at(ask))
    return _answer(ask, {"error": "there is no such content"}, 404) if found is None else ask.data(found, _BYTES)


def _at(ask: Ask) -> int:
    return _number(ask.query().get("at", ""))


def _number(text: str) -> int:
    return min(int(text), MOST) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


PAGES = (
    Page(ROOT, statement, open=True),
    Page(f"{ROOT}/head", _offered(_head), "POST", open=True),
    Page(f"{ROOT}/manifest", _offered(_manifest), open=True),
    Page(f"{ROOT}/objects/<sha256>", _offered(_content), open=True),
)
