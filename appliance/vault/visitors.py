"""Sessions of those who look into their own vault by a browser: kept in memory, worth nothing anywhere else."""

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from appliance.vault import vaults
from appliance.vault.models import DROP, READ, Credential

IDLE_S = 1800
MOST = 2000


@dataclass(frozen=True)
class Session:
    """`proof` is the password's hash as it was: another password ends it."""

    credential: int
    proof: str
    address: str
    form_token: str
    used_at: int


class Sessions:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def enter(self, credential: Any, address: str, now: int) -> str:
        """A new cookie; the session that wasn't used for longest gives way."""
        cookie = secrets.token_urlsafe(32)
        session = Session(credential.id, credential.password, address, secrets.token_urlsafe(16), now)
        with self._lock:
            self._open[_digest(cookie)] = session
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        return cookie

    def find(self, cookie: str, address: str, now: int) -> tuple[Session, Any] | None:
        """With its credential as it is now."""
        key = _digest(cookie)
        with self._lock:
            session = self._open.get(key)
            if session is None or not now - IDLE_S < session.used_at <= now + IDLE_S:
                self._open.pop(key, None)
                return None
            self._open[key] = replace(session, used_at=now)
            self._open.move_to_end(key)
        credential = Credential.get_or_none(Credential.id == session.credential)
        if credential is None or credential.password != session.proof or not may_enter(credential, address):
            self.leave(cookie)
            return None
        return session, credential

    def leave(self, cookie: str) -> None:
        with self._lock:
            self._open.pop(_digest(cookie), None)


def may_enter(credential: Any, address: str) -> bool:
    """Not who only brings files, and nobody from elsewhere."""
    vault = credential.vault
    if credential.kind == DROP or vault.removed_at is not None:
        return False
    try:
        ip_address(address)
    except ValueError:
        return not vault.networks and not credential.networks
    return vaults.is_allowed(address, vault.networks, credential.networks)


def may_change(credential: Any) -> bool:
    return bool(credential.kind not in (READ, DROP))


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
