"""One-time links: how an admin gets in for the first time, as there is no default password anywhere."""

import contextlib
import hashlib
import math
import os
import pwd
import secrets
import time
from pathlib import Path

from appliance.config import Config

VALID_S = 900
_FOR_YEARS_S = 10 * 365 * 86_400


def create(config: Config, now: float | None = None) -> str:
    """A new link's URL; only the hash of its token is kept, as the name of a file that its use removes."""
    at = time.time() if now is None else now
    _forget(config, before=at)
    return f"{address(config, str(config.admin.listen))}enter?token={_new(config, at + VALID_S)}"


def create_for_console(config: Config, host: str) -> str:
    """For who stands before the machine: valid until it is used or made anew, as the clock may not be right yet.

    `host` is how browsers reach this machine if it listens on all addresses.
    """
    forget_console(config)
    return f"{address(config, host)}enter?token={_new(config, time.time() + _FOR_YEARS_S)}"


def forget_console(config: Config) -> None:
    """Once somebody can log in, what has stood on the screen is good for nothing."""
    _forget(config, after=time.time() + 2 * VALID_S)


def address(config: Config, host: str) -> str:
    """Of the first page."""
    name = host if config.admin.listen.is_unspecified else str(config.admin.listen)
    return f"{'https' if config.admin.tls else 'http'}://{name}:{config.admin.port}/"


def _new(config: Config, valid_until: float) -> str:
    """Its token."""
    token = secrets.token_hex(32)
    folder = _folder(config)
    new = folder / f"new-{token[:8]}"
    new.touch(mode=0o600)
    os.utime(new, (valid_until, valid_until))
    owner = pwd.getpwuid(folder.stat().st_uid)
    os.chown(new, owner.pw_uid, owner.pw_gid)
    new.rename(folder / _name(token))
    return token


def _forget(config: Config, before: float = -math.inf, after: float = math.inf) -> None:
    for path in _folder(config).glob("link-*"):
        with contextlib.suppress(FileNotFoundError):  # somebody has just come in by it
            if not before <= path.stat().st_mtime <= after:
                path.unlink()


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
