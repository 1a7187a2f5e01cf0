"""The appliance's own backup, into its own vault. Root reads what is backed up; the vault's user alone stores it.

What passes between the two is in pieces, each after its length, and one of length 0 proves that all has come.
"""

import argparse
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from appliance import apply, backup, launch
from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UserError
from appliance.service import is_enabled
from appliance.vault import access, vaults
from appliance.vault.models import End, Refused, Vault, Who
from appliance.vault.store import Store

NAME = "appliance"  # of the vault
SETTINGS = {"keep_days": 90, "keep_versions": 0, "lock_days": 14}
_LENGTH = struct.Struct(">I")
_MAX_BYTES = 1 << 24


class _Pieces:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        if data:
            self._out.write(_LENGTH.pack(len(data)) + data)
        return len(data)

    def flush(self) -> None:
        self._out.flush()

    def end(self) -> None:
        self._out.write(_LENGTH.pack(0))
        self._out.flush()


def is_wanted(config: Config) -> bool:
    return is_enabled(config, "netbackup") and bool(config.vault.recipients)


def store_backup(config: Config) -> str:
    """A line of what was done. Raises UserError."""
    apply.must_be_root()
    if not config.vault.recipients:
        raise UserError("[vault] recipients: a public key is needed, which `gatehouse backup-key FILE` makes")
    words = [
        *launch.as_user(access.USER, ()),
        sys.executable,
        "-m",
        "appliance.vault.own",
        "--config",
        str(config.file),
    ]
    child = subprocess.Popen(
        words, env=launch.environment(config), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    broken = _sent(config, child.stdin)
    out, err = child.communicate()
    if broken or child.returncode:
        raise UserError(broken or err.decode(errors="replace").strip())
    return out.decode().strip()


def _sent(config: Config, target: IO[bytes] | None) -> str:
    """Why not, where that isn't for the other end to say."""
    pieces: Any = _Pieces(target) if target else None
    try:
        backup.create(config, pieces, config.vault.recipients)
        pieces.end()
    except BrokenPipeError:
        return ""
    except (OSError, UserError) as error:
        return str(error)
    return ""


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    """Raises EOFError where the end doesn't come."""
    while True:
        (size,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
        if not size:
            return
        if size > _MAX_BYTES:
            raise EOFError
        yield _exactly(source, size)


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def keep(store: Store, source: IO[bytes], now: float) -> str:
    """Raises Refused, and EOFError for half a backup, of which nothing is kept."""
    vault = Vault.get_or_none(Vault.name == NAME) or vaults.create(NAME, **SETTINGS)
    path = time.strftime("/gatehouse-%Y%m%d-%H%M%S.tar.age", time.gmtime(now))
    upload = store.begin(vault, path, who=Who(login=NAME))
    try:
        for piece in _pieces(source):
            upload.write(piece)
        version = upload.commit(End(True))
    finally:
        upload.abandon()
    return f"vault {NAME}: {path}, {version.bytes} bytes, sha256 {version.sha256}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="gatehouse-vault-own", description="Stores a backup from standard input.")
    parser.add_argument("--config", type=Path)
    try:
        print(keep(Store(configuration.load(parser.parse_args().config)), sys.stdin.buffer, time.time()))
    except Refused as refused:
        sys.exit(refused.text)
    except EOFError:
        sys.exit("the backup broke off: nothing of it was kept")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
