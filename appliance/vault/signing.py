"""The manifest's head, signed, so that a second copy proves by itself what this appliance had said when it was made."""

import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.files import fsync_folder

KEY, HEAD = "head.key", "head.json"  # beside the catalogue; on the second copy


def key(folder: Path) -> Ed25519PrivateKey:
    """Made at its first use (RFC 8032)."""
    path = folder / KEY
    if not path.exists():
        new = path.with_name(f".{KEY}.{os.getpid()}")
        new.touch(mode=0o600)
        new.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.rename(path)
        fsync_folder(folder)
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def public(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes_raw().hex()


def signed(private: Ed25519PrivateKey, **facts: int | str) -> dict[str, Any]:
    said = facts | {"key": public(private)}
    return said | {"signature": private.sign(_text(said)).hex()}


def is_by(key: str, said: dict[str, Any]) -> bool:
    """Whether the holder of a public key, in hex, has signed it."""
    try:
        own = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        own.verify(bytes.fromhex(said["signature"]), _text({k: v for k, v in said.items() if k != "signature"}))
    except (InvalidSignature, KeyError, TypeError, ValueError, RecursionError):
        return False
    return True


def write(place: Path, said: dict[str, Any]) -> None:
    new = place / f".{HEAD}"
    with new.open("w", encoding="ascii") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(place / HEAD)
    fsync_folder(place)


def read(place: Path) -> dict[str, Any] | None:
    """None where there is none yet. Raises ValueError for what is none."""
    try:
        said = json.loads((place / HEAD).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    if not isinstance(said, dict):
        raise ValueError("it is no signed head")
    return said


def _text(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True).encode()
