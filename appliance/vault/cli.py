"""`gatehouse vault`: vaults and their log-ins. What is in them is in cli_files.py, copies in cli_copies.py."""

import argparse
from collections.abc import Callable
from typing import Any

import peewee

from appliance.config import Config
from appliance.errors import UserError
from appliance.tables import show
from appliance.units import format_bytes, parse_bytes
from appliance.vault import access, catalog, cli_copies, cli_files, own, vaults
from appliance.vault.models import DROP, FULL, READ, Refused, vault_db

_NONE = "none"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("vault", help="what is backed up by FTP: vaults, log-ins, versions, second copy")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = _verb(verbs, "add", _add, "make a vault with a log-in of its name; prints the password, once")
    words.add_argument("vault")
    _setting_words(words)
    words = _verb(verbs, "set", _set, "change a vault")
    words.add_argument("vault")
    _setting_words(words)
    words = _verb(verbs, "list", _list, "all vaults")
    words.add_argument("--json", action="store_true")
    words = _verb(verbs, "show", _show, "a vault, its limits and its log-ins")
    words.add_argument("vault")
    words.add_argument("--json", action="store_true")
    words = _verb(verbs, "remove", _remove, "end a vault; what it has is kept until its time is over")
    words.add_argument("vault")
    words.add_argument("--yes", action="store_true", help="also one that has files")
    words = _verb(verbs, "login", _login, "a further log-in; prints the password, once")
    words.add_argument("vault")
    words.add_argument("login")
    words.add_argument("--kind", choices=(FULL, READ), default=FULL, help="default: full")
    words.add_argument("--networks", default="", metavar="NETWORK,…", help="only from there")
    words = _verb(verbs, "drop", _drop, "a log-in for a script: it can only bring new files; prints the password, once")
    words.add_argument("vault")
    words.add_argument("login")
    words.add_argument("--address", default="", help="only from there")
    words = _verb(verbs, "passwd", _passwd, "a new password for a log-in; it is printed")
    words.add_argument("login")
    words = _verb(verbs, "logout", _logout, "remove a log-in")
    words.add_argument("login")
    words = _verb(verbs, "backup", _backup, "back up the appliance itself into the vault `appliance`; done each night")
    words.add_argument("--if-wanted", action="store_true", help="do nothing where no recipients are configured")
    cli_files.add_parsers(verbs, _verb)
    cli_copies.add_parsers(verbs, _verb)


def _setting_words(words: argparse.ArgumentParser) -> None:
    words.add_argument("--quota", metavar="BYTES", help="such as 50G, with all old versions; none: no limit")
    words.add_argument("--files", metavar="N", help="files at most; none: no limit")
    words.add_argument("--networks", metavar="NETWORK,…", help="only from there; empty: from anywhere")
    words.add_argument("--tls-only", choices=("yes", "no"))
    words.add_argument("--rate", type=int, metavar="BITS", help="bits per second of a session, 0: no limit")
    words.add_argument("--sessions", type=int, metavar="N", help="at once")
    words.add_argument("--keep-days", type=int, metavar="N", help="so long is kept what was overwritten or removed")
    words.add_argument("--keep-versions", type=int, metavar="N", help="and so many before the present one")
    words.add_argument("--lock-days", type=int, metavar="N", help="so long nothing erases what was stored")
    words.add_argument("--schedule", metavar="TIME", help="how often files come, such as 1d; empty: it is learned")


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace, Config], str], help_: str) -> Any:
    words = verbs.add_parser(name, help=help_)
    words.set_defaults(run=lambda args, config: _told(run, args, config), needs_core=False)
    return words


def _told(run: Callable[[argparse.Namespace, Config], str], args: argparse.Namespace, config: Config) -> str:
    try:
        return run(args, config)
    except Refused as refused:
        raise UserError(refused.text) from None
    except peewee.PeeweeException as error:
        raise UserError(f"{catalog.path(config)}: {error}") from None


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if args.quota is not None:
        found["quota_bytes"] = None if args.quota == _NONE else parse_bytes(args.quota)
    if args.files is not None:
        found["quota_files"] = None if args.files == _NONE else _number(args.files)
    if args.tls_only is not None:
        found["tls_only"] = args.tls_only == "yes"
    names = {"rate": "rate_bps", "sessions": "max_sessions"}
    for word in ("networks", "rate", "sessions", "keep_days", "keep_versions", "lock_days", "schedule"):
        if (value := getattr(args, word)) is not None:
            found[names.get(word, word)] = value
    return found


def _number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"{text!r} is no number")
    return int(text)


def _add(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config), vault_db.atomic():
        vault = vaults.create(args.vault, **_settings(args))
        return f"log-in {vault.name}, password {vaults.add_login(vault, vault.name)}"


def _set(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        vaults.change(vaults.named(args.vault), **_settings(args))
    return ""


def _list(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        rows = [_row(vault, args.json) for vault in vaults.everyone()]
    return show(rows, ("vault", "files", "bytes", "quota", "keep_days", "keep_versions", "lock_days"), args.json)


def _row(vault: Any, as_json: bool) -> dict[str, object]:
    shown = (lambda size: size) if as_json else format_bytes
    quota = None if vault.quota_bytes is None else shown(vault.quota_bytes)
    keys = ("quota_files", "networks", "tls_only", "rate_bps", "max_sessions", "schedule")
    row: dict[str, object] = {"vault": vault.name, "files": vault.used_files, "bytes": shown(vault.used_bytes)}
    row |= {"quota": quota} | {key: getattr(vault, key) for key in ("keep_days", "keep_versions", "lock_days", *keys)}
    return row


def _show(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        vault = vaults.named(args.vault)
        row = _row(vault, args.json)
        logins = [
            {"login": c.login, "kind": c.kind, "networks": c.networks, "used_at": c.used_at, "used_from": c.used_from}
            for c in vaults.logins(vault)
        ]
    if args.json:
        return show([row | {"logins": logins}], (), True)
    settings = show([{"key": key, "value": value} for key, value in row.items()], ("key", "value"), False)
    return f"{settings}\n\n{show(logins, ('login', 'kind', 'networks', 'used_from'), False)}"


def _remove(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config), vault_db.atomic():
        vaults.remove(vaults.named(args.vault), args.yes)
    return f"{args.vault} takes nothing more; what it has is kept until its time is over"


def _login(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        return f"password {vaults.add_login(vaults.named(args.vault), args.login, args.kind, args.networks)}"


def _drop(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        return f"password {vaults.add_login(vaults.named(args.vault), args.login, DROP, args.address)}"


def _passwd(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        return f"password {vaults.set_password(args.login)}"


def _logout(args: argparse.Namespace, config: Config) -> str:
    with access.opened(config):
        vaults.remove_login(args.login)
    return ""


def _backup(args: argparse.Namespace, config: Config) -> str:
    return "" if args.if_wanted and not own.is_wanted(config) else own.store_backup(config)
