"""What keeps the guest's forms from being misused: form tokens."""

import hmac
import os
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from appliance.errors import UserError

KEY_BYTES = 32
SLOT_S = 1800  # a token is good for one to two slots: half an hour to an hour


class FormTokens:
    """Stateless tokens against forms that another site submits, each for one address and one purpose."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, purpose: str, ip: IPv4Address, now: float) -> str:
        return self._of_slot(purpose, ip, int(now) // SLOT_S)

    def fits(self, token: str, purpose: str, ip: IPv4Address, now: float) -> bool:
        slot = int(now) // SLOT_S
        right = (self._of_slot(purpose, ip, slot - age) for age in (0, 1))
        return any(hmac.compare_digest(token.encode(errors="replace"), one.encode()) for one in right)

    def lasting(self, purpose: str, about: str) -> str:
        """One that is good as long as the key."""
        return hmac.digest(self._key, f"{purpose} {about} lasting".encode(), "sha256").hex()[:32]

    def is_lasting(self, token: str, purpose: str, about: str) -> bool:
        return hmac.compare_digest(token.encode(errors="replace"), self.lasting(purpose, about).encode())

    def _of_slot(self, purpose: str, ip: IPv4Address, slot: int) -> str:
        return hmac.digest(self._key, f"{purpose} {ip} {slot}".encode(), "sha256").hex()[:32]


def load_key(directory: Path) -> bytes:
    """The key below `directory`, made when there is none, so that open forms outlive a restart."""
    path = directory / "form.key"
    with suppress(FileExistsError):
        _write_key(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise UserError(f"{path}: {KEY_BYTES} bytes are needed: remove the file, a new one is made")
    return key


def _write_key(path: Path) -> None:
    """Whole or not at all: it gets its name when it is on disk."""
    if path.exists():
        return
    draft = path.with_suffix(f".{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
        file.write(os.urandom(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
