"""One-time links: how an admin gets in for the first time, as there is no default password anywhere."""

import hashlib
import os
import pwd
import secrets
import time
from pathlib import Path

from appliance.config import Config

VALID_S = 900


def create(config: Config, now: float | None = None) -> str:
    """A new link's URL; only the hash of its token is kept, as the name of a file that its use removes."""
    token = secrets.token_hex(32)
    folder = _folder(config)
    path = folder / _name(token)
    path.touch(mode=0o600)
    at = (time.time() if now is None else now) + VALID_S
    os.utime(path, (at, at))
    owner = pwd.getpwuid(folder.stat().st_uid)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    return f"http://{config.admin.listen}:{config.admin.port}/enter?token={token}"


def redeem(config: Config, token: str) -> bool:
    """True for the first who comes in time: removing the file is what decides between two at once."""
    path = _folder(config) / _name(token)
    try:
        valid_until = path.stat().st_mtime
        path.unlink()
    except FileNotFoundError:
        return False
    return time.time() < valid_until


def _folder(config: Config) -> Path:
    return config.paths.state / "admin"


def _name(token: str) -> str:
    return "link-" + hashlib.sha256(token.encode(errors="replace")).hexdigest()
