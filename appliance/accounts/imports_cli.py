"""`gatehouse import`: a preview first, and with --yes all of it or nothing."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.accounts import imports, imports_daloradius, imports_sql, imports_user_manager, unfinished
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.units import format_bytes, format_duration
from rlm_python.speed_limits import format_bits_per_second

MAX_EXPORT = 64 * 2**20


def add_parser(commands: Any) -> None:
    sources = commands.add_parser("import", help="accounts, plans and vouchers of another system").add_subparsers(
        dest="source", required=True, metavar="SOURCE"
    )
    words = _source(sources, "user-manager", _user_manager, "RouterOS 7: /user-manager export show-sensitive")
    words.add_argument("files", nargs="+", type=Path, metavar="FILE", help="exports, and CSV files of vouchers")
    words = _source(sources, "daloradius", _daloradius, "a dump of its database, or an SQLite file of it")
    words.add_argument("file", type=Path, metavar="FILE")


def _source(sources: Any, name: str, run: Callable[..., str], help_: str) -> Any:
    words = sources.add_parser(name, help=help_)
    words.add_argument("--plan", help="for those who have none there")
    words.add_argument("--yes", action="store_true", help="do it; without, only say what would be done")
    words.add_argument("--json", action="store_true", help="the preview with every name and value")
    words.set_defaults(run=run)
    return words


def _user_manager(args: argparse.Namespace, config: Config) -> str:
    found = imports.Found()
    texts = [_read(path) for path in args.files]
    rows = [row for text in texts if imports_user_manager.is_csv(text) for row in imports_user_manager.read_csv(text)]
    passwords = {row["name"]: row["password"] for row in rows}
    used: set[str] = set()
    for path, text in zip(args.files, texts, strict=True):
        if not imports_user_manager.is_csv(text):
            try:
                used |= imports_user_manager.read(text, passwords, args.plan, config.site.timezone, found)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
    for row in rows:
        if row["name"] not in used:
            imports_user_manager.add_csv(row, args.plan, found)
    return _take(found, args, config)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_EXPORT + 1)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    if len(text) > MAX_EXPORT:
        raise UserError(f"{path} is larger than {format_bytes(MAX_EXPORT)}: that is no export")
    return text


def _daloradius(args: argparse.Namespace, config: Config) -> str:
    found = imports.Found()
    rows = imports_sql.rows(args.file, imports_daloradius.TABLES)
    try:
        imports_daloradius.read(rows, args.plan, config.site.timezone, found)
    except UserError as error:
        raise UserError(f"{args.file}: {error}") from None
    return _take(found, args, config)


def _take(found: imports.Found, args: argparse.Namespace, config: Config) -> str:
    if args.yes:
        unfinished.sweep()  # what a killed import left isn't here already
    imports.settle_clashes(found)
    text = imports.as_json(found) if args.json else imports.preview(found, _COLUMNS)
    if args.yes:
        imports.write(found, load_box(config.paths.state))
    if args.json:
        return text
    done = f"{len(found.accounts)} accounts and vouchers, {len(found.plans)} plans: all of this is here now"
    return f"{text}\n\n{done if args.yes else 'nothing was changed; with --yes it is done'}"


def _shown(column: str, form: Callable[[int], str]) -> Callable[[dict[str, Any]], str]:
    return lambda values: form(values[column]) if values.get(column) else ""


def _quota(values: dict[str, Any]) -> str:
    return f"{format_bytes(values['quota_bytes'])}/{values['quota_period']}" if values.get("quota_bytes") else ""


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "down": _shown("rate_down_bps", format_bits_per_second),
    "up": _shown("rate_up_bps", format_bits_per_second),
    "burst": lambda values: str(values.get("burst") or ""),
    "windows": lambda values: str(values.get("windows") or ""),
    "session_limit": _shown("session_timeout_s", format_duration),
    "validity": _shown("validity_s", format_duration),
    "quota": _quota,
    "simultaneous": _shown("simultaneous", str),
}
