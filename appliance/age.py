"""Encryption to a public key, in the age format (https://age-encryption.org/v1): a stream of any length."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyrage

from appliance.errors import UserError

MAX_KEY_FILE_BYTES = 65_536
_SCRYPT = re.compile(rb"age-encryption\.org/v1\n-> scrypt \S+ ([0-9]{1,9})\n")
_MOST_WORK = 20  # 1 GB; sealing takes what lasts a second, 2^18 or 2^19


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Ends:
    """Both ends of a stream, for pyrage. It keeps what goes wrong at them, as pyrage makes errors of its own of it."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader, self._writer = reader, writer
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        try:
            self._writer.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """The writer is flushed by whom it belongs to."""


def new_key() -> tuple[str, str]:
    """The text of a key file as age-keygen writes it, and its public key."""
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return f"# created: {created}\n# public key: {public}\n{identity}\n", public


def recipients(words: Sequence[str]) -> list[Any]:
    """Public keys; raises UserError for what is none, and where there is none."""
    if not words:
        raise UserError("a recipient is needed: --recipient age1…, which `gatehouse backup-key FILE` makes")
    found = []
    for word in words:
        try:
            found.append(pyrage.x25519.Recipient.from_str(word))
        except pyrage.RecipientError:
            raise UserError(f"{word[:80]!r} is no public key: it begins with age1") from None
    return found


def lines(path: Path) -> list[str]:
    """A file of keys, one a line, without its comments."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_KEY_FILE_BYTES).decode("ascii")
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: that is no file of age keys") from None
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def identities(path: Path) -> list[Any]:
    """The secret keys of a key file; raises UserError, and never shows one."""
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines(path)]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise UserError(f"{path}: that is no age key file: its line begins with AGE-SECRET-KEY-")
    return found


def encrypt(reader: Reader, writer: Writer, to: Sequence[Any]) -> None:
    """Raises what reader and writer raise."""
    ends = _Ends(reader, writer)
    try:
        pyrage.encrypt_io(ends, ends, to)
    except (pyrage.EncryptError, OSError) as error:
        raise ends.error or error from None


def decrypt(reader: Reader, writer: Writer, keys: Sequence[Any]) -> None:
    """Writes only what is authentic; that it is complete is proven when this returns.

    Raises what reader and writer raise, and UserError when the keys don't fit or anything was changed or cut off.
    """
    ends = _Ends(reader, writer)
    try:
        pyrage.decrypt_io(ends, ends, keys)
    except (pyrage.DecryptError, OSError) as error:
        if ends.error:
            raise ends.error from None
        if "No matching keys" in str(error):
            raise UserError("this key doesn't open it") from None
        raise UserError("it is no backup, or it was changed or cut off") from None


def seal(data: bytes, passphrase: str) -> bytes:
    """To a passphrase; trying many costs a second each (scrypt, RFC 7914)."""
    sealed: bytes = pyrage.passphrase.encrypt(data, passphrase)
    return sealed


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """Raises UserError where the passphrase is another one, or anything was changed."""
    asked = _SCRYPT.match(sealed)
    if asked and int(asked[1]) > _MOST_WORK:
        raise UserError(f"that file asks for 2^{int(asked[1])} rounds of scrypt: none of ours does")
    try:
        data: bytes = pyrage.passphrase.decrypt(sealed, passphrase)
    except pyrage.DecryptError:
        raise UserError("the passphrase is wrong, or the file was changed") from None
    return data
