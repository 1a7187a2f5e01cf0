"""`gatehouse site`: the appliances that share one database, and how a box comes to them."""

import argparse
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

from appliance import apply as applying
from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.config import Config
from appliance.errors import UserError
from appliance.sites import central, joining, overview, registry
from appliance.sites.models import Site
from appliance.tables import printable, show
from appliance.units import format_ago

COLUMNS = ("key", "title", "state", "version", "heard", "online")
HOURS = 72


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("site", help="appliances that share one PostgreSQL")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_add(verbs)
    for verb, run in (("list", _list), ("show", _show)):
        words = verbs.add_parser(verb)
        if verb == "show":
            words.add_argument("key")
        words.add_argument("--json", action="store_true")
        words.set_defaults(run=run)
    words = verbs.add_parser("set")
    words.add_argument("key")
    words.add_argument("--title", help="what people call it")
    words.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="such as site.contact=…")
    words.set_defaults(run=_set)
    words = verbs.add_parser("remove", help="its box ends what it does for guests")
    words.add_argument("key")
    words.set_defaults(run=_remove)
    words = verbs.add_parser("join", help="make this box the site of a file; its passphrase is asked for")
    words.add_argument("file", type=Path, metavar="FILE")
    behind = "what this box has in its own database stays there; its key is kept as password.key.alone"
    words.add_argument("--leave-behind", action="store_true", help=behind)
    words.set_defaults(run=_join, needs_core=False)


def _add_add(verbs: Any) -> None:
    words = verbs.add_parser("add", help="a new site, and the file by which its box joins")
    words.add_argument("key", help="up to 32 small letters, digits and '-'")
    words.add_argument("--title", default="", help="what people call it")
    words.add_argument(
        "--file", type=Path, required=True, metavar="FILE", help="made here; its passphrase is asked for"
    )
    words.add_argument("--hours", type=int, default=HOURS, help=f"how long the file is good, {HOURS} by default")
    words.add_argument(
        "--database-url", default="", metavar="URL", help="where the site reaches the database otherwise"
    )
    words.add_argument("--again", action="store_true", help="another file for a site that there is, for another box")
    words.set_defaults(run=_add)


def _add(args: argparse.Namespace, config: Config) -> str:
    registry.must_be_fleet(config)
    if args.file.exists():
        raise UserError(f"{args.file}: there is a file already")
    passphrase = _passphrase(twice=True)
    with core_db.atomic():
        site = registry.get(args.key) if args.again else registry.add(args.key, args.title)
        sealed = joining.sealed(joining.offer(config, site, args.hours, args.database_url), passphrase)
        audit.record(audit.command(), "made a file to join", f"site {site.key}", {}, {"hours": args.hours})
        _write(args.file, sealed)
    return f"{args.file} is good for one box and {args.hours} hours; there: gatehouse site join {args.file.name}"


def _write(path: Path, data: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _passphrase(twice: bool = False) -> str:
    """From the terminal, or else the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Passphrase: ")
    if twice and getpass.getpass("Once more: ") != first:
        raise UserError("the two passphrases differ")
    return first


def _join(args: argparse.Namespace, config: Config) -> str:
    try:
        with args.file.open("rb") as file:
            sealed = file.read(joining.MAX_FILE_BYTES)
    except OSError as error:
        raise UserError(f"{args.file} can't be read: {error.strerror}") from None
    join = joining.read(sealed, _passphrase())
    with applying.alone(config.paths.run):
        joining.take(config, join, args.leave_behind)
    return f"this box is the site {join.key} now; {args.file} is of no use any more: delete it"


def _rows() -> list[dict[str, object]]:
    query: Any = Site.select(Site, overview.online().alias("online")).order_by(Site.key)
    return [_row(site) | {"online": site.online} for site in query]


def _row(site: Any) -> dict[str, object]:
    now = registry.database_now()
    return {
        "key": site.key,
        "title": site.title,
        "state": overview.state(site, now),
        "version": site.version,
        "reported_at": site.reported_at,
        "heard": "never" if site.reported_at is None else format_ago(max(0, now - site.reported_at)),
    }


def _list(args: argparse.Namespace, config: Config) -> str:
    return show(_rows(), COLUMNS, args.json)


def _show(args: argparse.Namespace, config: Config) -> str:
    site, now = registry.get(args.key), registry.database_now()
    found = _row(site) | {
        "problems": overview.problems(site, now),
        "clock_ahead_ms": site.ahead_ms,
        "disks": overview.told_disks(site),
        "data_disk": site.data_disk,
        "modules": site.modules.split(),
        "kernel": site.kernel,
        "snapshot_at": site.snapshot_at,
        "key_fingerprint": site.fingerprint,
        "settings": {row.key: {"state": row.state, "answer": row.answer} for row in central.of(site)},
    }
    if args.json:
        return json.dumps(found, indent=1)
    lines = [f"site {site.key}, {site.title or 'without a title'}: {found['state']}, last heard {found['heard']}"]
    lines += [*overview.problems(site, now), *overview.disks(site)]
    lines += [f"{row.key}: {row.state}{f', {row.answer}' if row.answer else ''}" for row in central.of(site)]
    return "\n".join(map(printable, lines))


def _set(args: argparse.Namespace, config: Config) -> str:
    site = registry.get(args.key)
    before, settings = site.title, dict(_pair(word) for word in args.setting)
    with core_db.atomic():
        if args.title is not None:
            registry.change(site, args.title)
            audit.record(audit.command(), "changed", f"site {site.key}", {"title": before}, {"title": site.title})
        count = central.want(site, settings, audit.command())
    told = f"; its appliance is told of {count} settings: see `gatehouse site show {site.key}`" if count else ""
    return f"site {site.key} changed{told}"


def _pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or key not in central.allowed():
        raise UserError(f"{word!r} can't be set for a site: KEY=VALUE, with one of {', '.join(central.allowed())}")
    return key, value


def _remove(args: argparse.Namespace, config: Config) -> str:
    site = registry.get(args.key)
    with core_db.atomic():
        registry.remove(config, site)
        audit.record(audit.command(), "removed", f"site {site.key}", {"title": site.title}, {})
    return f"site {site.key} removed; take its database login away too, if it has one of its own"
