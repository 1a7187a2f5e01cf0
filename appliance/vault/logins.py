"""Who may log in to the vault: by password, from where, and how often somebody may guess.

A refusal says nothing about which names there are: an unknown one costs the same time, counts the same failures and
gets the same words.
"""

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from appliance.guesses import TOO_MANY, Guesses
from appliance.vault import vaults
from appliance.vault.models import Credential, Failed, Refused, Vault

AT_ONCE = 2  # argon2 takes 64 MB and a processor each
REMEMBERED_S = 300  # a password that was right needn't be worked out again, for a router that comes each minute
MAX_REMEMBERED = 4096
WRONG = "The log-in or its password is wrong, or it may not be used from here"

guesses = Guesses(Failed)  # by FTP and on the pages together


class Logins:
    """One a process, for all sessions' threads."""

    def __init__(self, key_file: Path) -> None:
        self._verifying = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._names_key = _lasting_key(key_file)

    def log_in(self, login: str, password: str, address: str) -> Any:
        """The credential, with its vault. Raises Refused: 530, or 421 for who has guessed too often."""
        found: Any = Credential.get_or_none(Credential.login == login)
        if guesses.are_too_many(login, address, found.used_from if found else ""):
            raise Refused(421, TOO_MANY)
        right = self._is_right(login, password, found)
        if not right or not vaults.is_allowed(address, found.vault.networks, found.networks):
            guesses.count(login, address)
            raise Refused(530, WRONG)
        if found.used_from != address or (found.used_at or 0) < time.time() - 60:
            vaults.used(found, address)
        return found

    def needs_tls(self, login: str) -> bool:
        """Whether a password must not come in clear; some names that don't exist get that answer too, always the same.

        So that neither answer tells that a name exists.
        """
        found = Credential.get_or_none(Credential.login == login)
        if found is not None:
            return bool(found.vault.tls_only)
        kinds = {bool(v.tls_only) for v in Vault.select(Vault.tls_only).where(Vault.removed_at.is_null())}
        if len(kinds) < 2:
            return kinds == {True}
        return bool(hmac.digest(self._names_key, login.encode(), "sha256")[0] & 1)

    def _is_right(self, login: str, password: str, found: Any) -> bool:
        mark = hmac.digest(self._key, f"{found.password if found else ''}\0{password}".encode(), "sha256")
        if found is not None and found.vault.removed_at is None:
            with self._lock:
                if self._right.get(mark, 0) > time.monotonic():
                    return True
        with self._verifying:
            right = vaults.verify(login, password) is not None
        if right:
            with self._lock:
                self._right[mark] = time.monotonic() + REMEMBERED_S
                while len(self._right) > MAX_REMEMBERED:
                    self._right.popitem(last=False)
        return right


def _lasting_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != 32:
        key = secrets.token_bytes(32)
        path.touch(mode=0o600)
        path.write_bytes(key)
    return key
