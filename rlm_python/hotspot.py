"""FreeRADIUS's callbacks (rlm_python3, FreeRADIUS 3.2), nothing else.

Both radiusd processes load this file; which of the callbacks each calls stands in raddb/. `radiusd` is the
module that the embedding server provides.
"""

import gc
import os
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import peewee
import radiusd

from appliance import config as configuration
from appliance import db
from appliance.accounts.checkpoints import Checkpoints
from appliance.accounts.refusals import Refusals
from appliance.crypto import load_box
from appliance.errors import UserError
from rlm_python import accounting as acct
from rlm_python import logins, pairs
from rlm_python.authorization import Reject, devices_message
from rlm_python.authorization import authorize as decide
from rlm_python.stores import Stores

Result = int | tuple[int, tuple[pairs.Pair, ...], tuple[pairs.Pair, ...]]


class State:
    """What the callbacks need; raises UserError or peewee.PeeweeException when it can't be had."""

    def __init__(self, config: configuration.Config) -> None:
        self.zone = config.site.timezone
        self.interim_s = config.radius.interim_interval_s
        self.silent_s = config.radius.silent_s
        self.box = load_box(config.paths.state)
        self.stores = Stores(config, self.box, _does_accounting(), _log)
        routers = self.stores.now().database.execute_sql("SELECT name, kind, address FROM nas").fetchall()
        self.kinds = {name: kind for name, kind, _ in routers}
        self.networks = {name for name, _, address in routers if "/" in address}
        self.session_ids = _session_ids()
        self.checkpoints: Checkpoints | None = None
        self.refusals = Refusals(config.database_url)


state: State


def _session_ids() -> Iterator[bytes]:
    """Eight bytes each, no two alike: counted from a random start, as asking the kernel each time costs more."""
    first = int.from_bytes(os.urandom(8))
    return (((first + n) % 2**64).to_bytes(8) for n in count())


def instantiate(_: Any) -> int:
    """Called once in each process; -1 stops the server, an exception wouldn't."""
    global state
    try:
        config = configuration.load()
        state = State(config)
    except (UserError, peewee.PeeweeException) as error:
        _log(str(error))
        return -1
    if _does_accounting() and db.sqlite_path(config.database_url):
        state.checkpoints = Checkpoints(config.database_url)
    gc.freeze()  # what is loaded now stays for good, so no collection need look at it again
    return 0


def _does_accounting() -> bool:
    return os.environ.get("GATEHOUSE_RADIUS") == "accounting"


def detach(_: Any = None) -> int:
    """Called at the end: a connection left open aborts the process when the interpreter is taken down."""
    if state.checkpoints is not None:
        state.checkpoints.stop()
    state.refusals.stop()
    state.stores.stop()
    return int(radiusd.RLM_MODULE_OK)


def authorize(p: Any) -> Result:
    """Hands the password to pap, chap and mschap; a refusal waits in Tmp-String-0 until the password was right."""
    request = pairs.by_name(p)
    now = int(time.time())
    kind = state.kinds.get(request.get("Tmp-String-0", ""), "other")
    try:
        store = state.stores.now()
        login = logins.identify(request, kind, store.lookup, store.login_writes, now)
        if login is None:
            return int(radiusd.RLM_MODULE_NOTFOUND)
        proof = logins.proof(login, request, state.box)
    except (peewee.PeeweeException, UserError) as error:
        return authorize(p) if state.stores.lost(error) else _database_failed(error)
    name = login.account.name
    whose: tuple[pairs.Pair, ...] = () if name == request.get("User-Name") else (("Tmp-String-3", ":=", name),)
    verdict = decide(login.account, state.zone, now)
    if isinstance(verdict, Reject):
        why: tuple[pairs.Pair, ...] = (("Tmp-String-0", ":=", verdict.message), ("Tmp-String-2", ":=", verdict.rule))
        return radiusd.RLM_MODULE_OK, (), (proof, *why, *whose)
    session_class = pairs.session_class(next(state.session_ids), verdict, kind, now)
    reply = pairs.reply_pairs(verdict, kind, session_class, state.interim_s)
    if whose:
        reply += (("User-Name", ":=", name),)  # accounting is to say whose session it is (RFC 2865, 5.1)
    notes = pairs.Notes.of(login.account, verdict, kind, login.remember, login.by_device)
    if notes is None:
        return radiusd.RLM_MODULE_UPDATED, reply, (proof, *whose)
    return radiusd.RLM_MODULE_UPDATED, reply, (proof, ("Tmp-String-1", ":=", notes.text()), *whose)


def post_auth(p: Any) -> Result:
    """Called when a login has something to write down (Notes), and for each refusal with its reason."""
    request = pairs.by_name(p)
    if reason := request.get("Tmp-String-2"):
        return _note_refusal(request, reason)
    notes, now = pairs.Notes.parse(request["Tmp-String-1"]), int(time.time())
    device = (notes.account_id, pairs.mac(request.get("Calling-Station-Id", "")))
    address = None
    try:
        writes = state.stores.now().login_writes
        if notes.simultaneous and not writes.take_slot(*device, notes.simultaneous, now, state.silent_s):
            return _refused(devices_message(notes.simultaneous), "simultaneous")
        if notes.pool_id:
            address = writes.reserve_address(notes.pool_id, *device, now, state.silent_s)
            if address is None:
                writes.leave_slot(*device)
                return _refused("All addresses of your plan are in use. Please try again later.", "pool")
        if notes.first_login:
            writes.note_first_login(notes.account_id, now)
        if notes.devices or notes.knew:
            writes.remember(*device, notes.devices, now)
    except (peewee.PeeweeException, UserError) as error:
        if state.stores.lost(error):
            return post_auth(p)
        _database_failed(error)
        return _refused("The login server is busy. Please try again.", "busy")
    return radiusd.RLM_MODULE_UPDATED, (("Framed-IP-Address", ":=", address),) if address else (), ()


def accounting(p: Any) -> Result:
    """OK only when it is on disk; anything else is no answer, and the NAS sends the packet again."""
    try:
        packet = pairs.accounting_packet(pairs.by_name(p), int(time.time()))
    except (KeyError, ValueError) as error:
        _log(f"accounting packet dropped, this is missing or no number: {error}")
        return int(radiusd.RLM_MODULE_INVALID)
    if packet.status in acct.OF_A_NAS and packet.nas in state.networks:
        return int(radiusd.RLM_MODULE_OK)  # one of many access points under this name: its sessions can't be told apart
    try:
        state.stores.now().record(packet)
    except (peewee.PeeweeException, UserError) as error:
        if state.stores.lost(error):
            return accounting(p)
        _log(f"accounting packet not answered: {error}")
        return int(radiusd.RLM_MODULE_FAIL)
    return int(radiusd.RLM_MODULE_OK)


def _refused(message: str, rule: str) -> Result:
    return radiusd.RLM_MODULE_REJECT, (("Reply-Message", ":=", message),), (("Tmp-String-2", ":=", rule),)


def _note_refusal(request: Mapping[str, str], reason: str) -> int:
    name, mac = request.get("User-Name", ""), pairs.mac(request.get("Calling-Station-Id", ""))
    account = "" if reason in ("unknown", "unread", "eap") else request.get("Tmp-String-3") or name
    state.refusals.note(name, account, request.get("Tmp-String-0", ""), mac, reason)
    return int(radiusd.RLM_MODULE_OK)


def _database_failed(error: Exception) -> int:
    """Closed, so that the next call opens it anew: the server may have gone and come back."""
    _log(f"database: {error}")
    state.stores.close()
    return int(radiusd.RLM_MODULE_FAIL)


def _log(text: str) -> None:
    radiusd.radlog(radiusd.L_ERR, f"gatehouse: {text}")
