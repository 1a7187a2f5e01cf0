"""`gatehouse backup`, `restore` and `backup-key`: words in, calls of `backup` and `restore` out."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from appliance import age, apply, backup, supervise, swap, systemd_units
from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UserError
from appliance.files import written
from appliance.restore import Restore
from appliance.units import format_bytes

_STANDARD = Path("-")


def add_parsers(commands: Any) -> None:
    words = commands.add_parser("backup", help="write all that a new machine needs into one encrypted file")
    words.add_argument("file", type=Path, metavar="FILE", help="- is standard output")
    words.add_argument("--recipient", action="append", default=[], metavar="age1…", help="public key; may be repeated")
    words.add_argument("--recipients-file", type=Path, metavar="FILE", help="public keys, one a line")
    words.set_defaults(run=_backup, needs_core=False)
    words = commands.add_parser("restore", help="put a backup in place of what is there")
    words.add_argument("file", type=Path, metavar="FILE", help="- is standard input")
    words.add_argument("--identity", type=Path, required=True, metavar="KEYFILE", help="with the secret key")
    words.add_argument("--yes", action="store_true", help="also where an appliance is already: it is kept beside")
    words.set_defaults(run=_restore, needs_core=False, needs_config=False)
    words = commands.add_parser("backup-key", help="make a secret key for backups, and print its public key")
    words.add_argument("file", type=Path, metavar="KEYFILE")
    words.set_defaults(run=_backup_key, needs_core=False, needs_config=False)


def _backup(args: argparse.Namespace, config: Config) -> str:
    apply.must_be_root()
    recipients = [*args.recipient, *(age.lines(args.recipients_file) if args.recipients_file else ())]
    try:
        with _output(args.file) as out:
            manifest = backup.create(config, out, recipients)
    except OSError as error:
        raise UserError(f"{args.file} can't be written: {error.strerror}") from None
    count, size = len(manifest.entries), format_bytes(sum(entry.size for entry in manifest.entries))
    lines = [f"{args.file}: {count} files, {size}", *(f"note: {line}" for line in backup.left_out(config))]
    if args.file != _STANDARD:
        return "\n".join(lines)
    print(*lines[1:], sep="\n", end="", file=sys.stderr)
    return ""


@contextlib.contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    if path == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with written(path, 0o600, "root", "root") as file:
        yield file


def _restore(args: argparse.Namespace, _: Config) -> str:
    apply.must_be_root()
    file = configuration.file_of(args.config)
    if args.finished:
        apply.apply(configuration.load(args.config))
        return "the restore that had been broken off is done"
    work = Restore(file, args.yes)
    try:
        with work, _input(args.file) as source:
            place = work.unpack(source, age.identities(args.identity))
            stop_services(args.config)
            work.swap_in(place)
    except (UserError, OSError, LookupError) as error:
        raise UserError(f"{args.file} can't be restored: {error}; {_left_by(work, args.config)}") from None
    made = datetime.fromtimestamp(work.manifest.created_at, place.config.site.timezone)
    text = f"restored: {work.manifest.host} of {made:%Y-%m-%d %H:%M}"
    text += f"; what was there is in {', '.join(place.kept())}" if place.kept() else ""
    try:
        apply.apply(configuration.load(args.config))
    except UserError as error:
        raise UserError(f"{text}; but no service was started: {error}") from None
    return text


def _left_by(work: Restore, file: Path | None) -> str:
    """What is to be said after a failure; where services had to stop already, they run again."""
    if work.place and swap.is_pending(work.place.state):
        return "the same command once more finishes it"
    if work.place:
        with contextlib.suppress(UserError):
            apply.apply(configuration.load(file))
    return "nothing was changed"


@contextlib.contextmanager
def _input(path: Path) -> Iterator[BinaryIO]:
    if path == _STANDARD:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def stop_services(file: Path | None) -> None:
    """Those of the appliance that gives way; its configuration may be what is broken."""
    if systemd_units.is_running():
        systemd_units.stop()
        return
    config = Config(paths=configuration.salvage_paths(file))
    if supervise.is_running(config):
        supervise.stop(config)


def _backup_key(args: argparse.Namespace, _: Config) -> str:
    text, public = age.new_key()
    try:
        handle = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise UserError(f"{args.file} can't be written: {error.strerror}") from None
    print(f"keep {args.file} away from this machine: without it no backup can be read", file=sys.stderr)
    return public
