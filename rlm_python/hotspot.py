"""FreeRADIUS's callbacks (rlm_python3, FreeRADIUS 3.2), nothing else.

Both radiusd processes load this file; which of the callbacks each calls stands in raddb/. `radiusd` is the
module that the embedding server provides.
"""

import gc
import os
import time
from typing import Any

import peewee
import radiusd

from appliance import config as configuration
from appliance import db
from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.lookup import Lookup
from appliance.accounts.sessions import Sessions
from appliance.crypto import load_box
from appliance.errors import UserError
from rlm_python import accounting as acct
from rlm_python import pairs
from rlm_python.authorization import Reject
from rlm_python.authorization import authorize as decide

Result = int | tuple[int, tuple[pairs.Pair, ...], tuple[pairs.Pair, ...]]

BUSY_TIMEOUT_MS = 200  # a foreign writer that stalls may hold up a login this long and no longer
MISSED_INTERIMS = 3  # so long may a session be silent before it counts as gone


class State:
    """What the callbacks need; raises UserError or peewee.PeeweeException when it can't be had."""

    def __init__(self, config: configuration.Config, durable: bool) -> None:
        self.zone = config.site.timezone
        self.interim_s = config.radius.interim_interval_s
        self.silent_s = MISSED_INTERIMS * self.interim_s
        self.box = load_box(config.paths.state)
        self.database = db.connect(config.database_url, BUSY_TIMEOUT_MS, durable, shared=True)
        self.database.connect()
        self.lookup = Lookup(self.database, self.zone, self.silent_s)
        self.login_writes = LoginWrites(self.database)
        self.sessions = Sessions(self.database)


state: State


def instantiate(_: Any) -> int:
    """Called once in each process; -1 stops the server, an exception wouldn't."""
    global state
    durable = os.environ.get("GATEHOUSE_RADIUS") == "accounting"  # a login's reservations needn't survive the power
    try:
        state = State(configuration.load(), durable)
    except (UserError, peewee.PeeweeException) as error:
        radiusd.radlog(radiusd.L_ERR, f"gatehouse: {error}")
        return -1
    gc.freeze()  # what is loaded now stays for good, so no collection need look at it again
    return 0


def detach(_: Any = None) -> int:
    """Called at the end: a connection left open aborts the process when the interpreter is taken down."""
    state.database.close()
    return int(radiusd.RLM_MODULE_OK)


def authorize(p: Any) -> Result:
    """Hands the password to pap, chap and mschap; a refusal waits in Tmp-String-0 until the password was right."""
    request = pairs.by_name(p)
    now = int(time.time())
    mac = pairs.mac(request.get("Calling-Station-Id", ""))
    try:
        account = state.lookup.account(request.get("User-Name", ""), mac, now)
        if account is None:
            return int(radiusd.RLM_MODULE_NOTFOUND)
        password = ("Cleartext-Password", ":=", state.box.open(account.password))
    except (peewee.PeeweeException, UserError) as error:
        return _database_failed(error)
    verdict = decide(account, state.zone, now)
    if isinstance(verdict, Reject):
        return radiusd.RLM_MODULE_OK, (), (password, ("Tmp-String-0", ":=", verdict.message))
    reply = pairs.reply_pairs(verdict, os.urandom(8), state.interim_s)
    return radiusd.RLM_MODULE_UPDATED, reply, (password, *pairs.notes(account, verdict))


def post_auth(p: Any) -> Result:
    """Called when a login must be written down: its pool's address, or the account's first login."""
    request = pairs.by_name(p)
    mac = pairs.mac(request.get("Calling-Station-Id", ""))
    account_id, now = int(request["Tmp-Integer-0"]), int(time.time())
    if "Tmp-Integer-1" not in request:
        state.login_writes.note_first_login(account_id, now)
        return int(radiusd.RLM_MODULE_OK)
    pool_id = int(request["Tmp-Integer-1"])
    try:
        address = state.login_writes.reserve_address(pool_id, account_id, mac, now, state.silent_s)
    except peewee.PeeweeException as error:
        _database_failed(error)
        return _refused("The login server is busy. Please try again.")
    if address is None:
        return _refused("All addresses of your plan are in use. Please try again later.")
    return radiusd.RLM_MODULE_UPDATED, (("Framed-IP-Address", ":=", address),), ()


def accounting(p: Any) -> Result:
    """OK only when it is on disk; anything else is no answer, and the NAS sends the packet again."""
    try:
        packet = pairs.accounting_packet(pairs.by_name(p), int(time.time()))
    except (KeyError, ValueError) as error:
        radiusd.radlog(radiusd.L_ERR, f"gatehouse: accounting packet dropped, this is missing or no number: {error}")
        return int(radiusd.RLM_MODULE_INVALID)
    try:
        acct.record(packet, state.sessions, state.zone, state.silent_s)
    except peewee.PeeweeException as error:
        return _database_failed(error)
    return int(radiusd.RLM_MODULE_OK)


def _refused(message: str) -> Result:
    return radiusd.RLM_MODULE_REJECT, (("Reply-Message", ":=", message),), ()


def _database_failed(error: Exception) -> int:
    """Closed, so that the next call opens it anew: the server may have gone and come back."""
    radiusd.radlog(radiusd.L_ERR, f"gatehouse: database: {error}")
    if not state.database.is_closed():
        state.database.close()
    return int(radiusd.RLM_MODULE_FAIL)
