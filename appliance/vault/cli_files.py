"""`gatehouse vault ls`, `versions`, `get`, `restore`, `undelete`, `archive`, `verify`, `rebuild` and `trust`."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, BinaryIO

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.vault import access, faults, history, rebuild, retention, scrub, settings, vaults
from appliance.vault.models import GOOD, Object, Who

_STANDARD = Path("-")
_ROOT = Who(login="root")
_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")


def add_parsers(verbs: Any, verb: Callable[..., Any]) -> None:
    words = verb(verbs, "ls", _ls, "a folder, as it is or as it was")
    words.add_argument("vault")
    words.add_argument("path", nargs="?", default="/")
    words.add_argument("--at", metavar="TIME", help="such as 2027-01-31T18:00, site's time")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "versions", _versions, "all versions of a file that are kept")
    words.add_argument("vault")
    words.add_argument("path")
    words.add_argument("--json", action="store_true")
    words = verb(verbs, "get", _get, "write a version into a file")
    words.add_argument("version", type=int)
    words.add_argument("file", type=Path, metavar="FILE", help="- is standard output")
    words = verb(verbs, "undelete", _undelete, "make a version the present file again")
    words.add_argument("version", type=int)
    words.add_argument("--path", help="at another place")
    words = verb(verbs, "restore", _restore, "make a whole vault what it was at a time; nothing is lost by it")
    words.add_argument("vault")
    words.add_argument("--at", required=True, metavar="TIME", help="such as 2027-01-31T18:00, site's time")
    words = verb(verbs, "archive", _archive, "write a whole vault, as it is or as it was, into one file")
    words.add_argument("vault")
    words.add_argument("file", type=Path, metavar="FILE", help="ends with .zip or .tar; - is a tar on standard output")
    words.add_argument("--at", metavar="TIME")
    words = verb(
        verbs, "verify", _verify, "read all contents, and prove the manifest; prints the hash of its last line"
    )
    words.add_argument("--manifest", action="store_true", help="only the manifest")
    words = verb(verbs, "rebuild", _rebuild, "make the catalogue anew from the data disk")
    words.add_argument("--shorter", action="store_true", help="also where the disk knows of less than the catalogue")
    verb(verbs, "expire", _expire, "erase now what nothing keeps any more; done each hour")
    verb(verbs, "trust", _trust, "take the data disk for good again, after it failed and was looked at")


def moment_ms(text: str, zone: tzinfo) -> int:
    """UTC; a time without seconds is the minute's beginning, one with them that second's end."""
    for form in _FORMS:
        with contextlib.suppress(ValueError):
            found = datetime.strptime(text.removesuffix("Z"), form).replace(tzinfo=UTC if text.endswith("Z") else zone)
            return int(found.timestamp() * 1000) + 999 * ("%S" in form)
    raise UserError(f"{text!r} is no time: write 2027-01-31T18:00, or with Z at its end for UTC")


def _at(args: argparse.Namespace, config: Config) -> int | None:
    return moment_ms(args.at, config.site.timezone) if args.at else None


def _time(at_s: int | None, config: Config) -> str | None:
    return None if at_s is None else f"{datetime.fromtimestamp(at_s, config.site.timezone):%Y-%m-%d %H:%M:%S}"


def _ls(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    found = store.entries(vaults.named(args.vault), args.path, _at(args, config))
    rows = [entry._asdict() | {"modified": _time(entry.modified_at, config)} for entry in found]
    for row in [] if args.json else rows:
        row["name"] += "/" * bool(row["is_folder"])
    return show(rows, ("bytes", "modified", "version", "name"), args.json)


def _versions(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    vault = vaults.named(args.vault)
    rows = []
    for version in store.versions(vault, args.path):
        ends = retention.next_end_ms(vault, version)
        rows.append(
            {
                "version": version.id,
                "stored": _time(version.stored_ms // 1000, config),
                "bytes": version.bytes,
                "state": "present" if ends is None else "old" if version.confirmed else "unconfirmed",
                "kept_until": None if ends is None else _time(int(time.time()) + max(0, ends) // 1000, config),
                "by": " ".join(word for word in (version.login, version.address) if word),
                "why": version.why,
                "sha256": version.sha256,
            }
        )
    return show(rows, ("version", "stored", "bytes", "state", "kept_until", "by", "why"), args.json)


def _get(args: argparse.Namespace, config: Config) -> str:
    with _output(args.file) as out:
        store = access.opened_store(config)
        version = store.version(args.version)
        with store.open(version) as file:
            if scrub.digest(file) != version.sha256:
                raise UserError(f"version {version.id} isn't what it was: see `gatehouse vault verify`")
            file.seek(0)
            _copied(iter(lambda: file.read(1 << 20), b""), out)
    return "" if args.file == _STANDARD else f"{args.file}: {version.bytes} bytes, sha256 {version.sha256}"


@contextlib.contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    """A new file, opened before the vault's user is all that we are; away again where it fails."""
    if path == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        file = path.open("xb")
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
    with file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(0)
            raise


def _copied(pieces: Iterable[bytes], out: BinaryIO) -> None:
    try:
        for piece in pieces:
            out.write(piece)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"it can't be written: {error.strerror}") from None


def _undelete(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    history.undelete(store, store.version(args.version), args.path, _ROOT)
    return ""


def _restore(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    at_ms = moment_ms(args.at, config.site.timezone)
    return f"{history.restore_view(store, vaults.named(args.vault), at_ms, _ROOT)} files and folders are as they were"


def _archive(args: argparse.Namespace, config: Config) -> str:
    kind: Any = {".zip": "zip", ".tar": "tar"}.get(args.file.suffix, "tar" if args.file == _STANDARD else "")
    if not kind:
        raise UserError(f"{args.file}: its name has to end with .zip or .tar")
    with _output(args.file) as out:
        store = access.opened_store(config)
        _copied(history.archive(store, vaults.named(args.vault), _at(args, config), kind), out)
    return ""


def _verify(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    proof = rebuild.prove(store.readable())
    if proof.problem:
        raise UserError(f"the manifest: {proof.problem}")
    line = f"{proof.events} events, the last one's hash is {proof.head}"
    if args.manifest:
        return line
    count, bad = 0, []
    for item in list(Object.select().order_by(Object.verified_at)):
        count += 1
        if not scrub.check(store, item.sha256, item.bytes, int(time.time())):
            bad.append(item.sha256)
    if bad:
        raise UserError(f"{line}; {len(bad)} of {count} contents are bad and no second copy has them: {_few(bad)}")
    return f"{line}; {count} contents are what they were"


def _few(words: list[str]) -> str:
    return ", ".join(word[:12] for word in words[:5]) + ", …" * (len(words) > 5)


def _rebuild(args: argparse.Namespace, config: Config) -> str:
    store = access.opened_store(config)
    back = settings.read_back(store.state)
    report = rebuild.rebuild(store.readable(), args.shorter)
    line = f"{report.events} events, {report.versions} versions; {report.missing} contents aren't on the disk"
    return line + (f"; {back.vaults} vaults and {back.logins} log-ins are as in the backup" if back else "")


def _expire(args: argparse.Namespace, config: Config) -> str:
    return f"{retention.run(access.opened_store(config))} versions were erased"


def _trust(args: argparse.Namespace, config: Config) -> str:
    access.opened_store(config)
    bad = Object.select().where(Object.state != GOOD).count()
    count = faults.close(faults.DISK)
    return f"{count} faults are over" + (f"; {bad} contents are bad all the same" if bad else "")
