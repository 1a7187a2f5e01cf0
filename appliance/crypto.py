"""Secrets at rest: account passwords and NAS secrets, encrypted with a key that lies outside the database."""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import UserError

_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2.2: 96 random bits


class SecretBox:
    """AES-256-GCM (NIST SP 800-38D); a sealed secret is nonce, ciphertext and tag in one value of bytes.

    CHAP and EAP-MD5 need the password itself, so a hash wouldn't do (RFC 1994, 2.1).
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), None)

    def open(self, sealed: bytes) -> str:
        """Raises UserError when the key isn't the one it was sealed with."""
        try:
            return self._cipher.decrypt(bytes(sealed[:_NONCE_BYTES]), bytes(sealed[_NONCE_BYTES:]), None).decode()
        except (InvalidTag, ValueError):
            raise UserError("a stored secret doesn't fit the key file: restore keys/password.key") from None


def key_file(state: Path) -> Path:
    return state / "keys" / "password.key"


def load_box(state: Path) -> SecretBox:
    """The box for the key below `state`; raises UserError where there is none."""
    return SecretBox(_key(state))


def derived_secret(state: Path, purpose: str) -> str:
    """A secret that is the same after each restart without being kept anywhere (RFC 5869)."""
    return HKDF(hashes.SHA256(), 16, salt=None, info=purpose.encode()).derive(_key(state)).hex()


def _key(state: Path) -> bytes:
    path = key_file(state)
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no key yet: run `gatehouse apply` first") from None
    except PermissionError:
        raise UserError(f"{path}: only root and members of gatehouse-core may read it: try sudo") from None
    if len(key) != 32:
        raise UserError(f"{path}: 32 bytes are needed, it has {len(key)}: restore it from a backup")
    return key


def new_secret() -> str:
    """A shared secret for a NAS: hex, because RouterOS and radclient trip over other characters."""
    return secrets.token_hex(16)


def new_password() -> str:
    """A password that can be read out and typed on a phone: no look-alikes, about 59 bits."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "".join(secrets.choice(alphabet) for _ in range(12))
