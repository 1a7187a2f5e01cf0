"""`gatehouse plan|pool|account|session`: words in, calls of `manage` out."""

import argparse
import sys
import time
from datetime import datetime
from typing import Any

from appliance.accounts import imports_cli, limits, manage, prices, privacy_cli, terms, vouchers_cli, wording
from appliance.accounts.limits import NONE, PLAN
from appliance.accounts.models import Account, Plan
from appliance.accounts.periods import period_start
from appliance.config import Config
from appliance.crypto import load_box, new_password
from appliance.errors import UserError
from appliance.nas.sessions import cut
from appliance.tables import show
from appliance.units import format_bytes, format_duration

_RUNNING = "running sessions follow within seconds"


def add_parsers(commands: Any) -> None:
    _plan(commands.add_parser("plan", help="what accounts may do: speed, windows, limits"))
    _pool(commands.add_parser("pool", help="ranges of addresses for plans"))
    _account(commands.add_parser("account", help="who may log in"))
    _session(commands.add_parser("session", help="who is online, and who was"))
    vouchers_cli.add_parser(commands)
    imports_cli.add_parser(commands)


# Plans


def _plan(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, run in (("add", _plan_add), ("set", _plan_set)):
        words = verbs.add_parser(verb)
        words.add_argument("name")
        words.add_argument("--price", metavar="AMOUNT", help=prices.HELP)
        words.add_argument("--currency", metavar="CODE", help="its three letters, such as EUR")
        _limit_options(words, f"{NONE}: no limit")
        words.set_defaults(run=run)
    _list_and_remove(verbs, _plan_list, _plan_remove)


def _limit_options(words: argparse.ArgumentParser, more: str) -> None:
    group = words.add_argument_group("limits", more)
    for limit in limits.LIMITS:
        group.add_argument(f"--{limit.option}", metavar=limit.metavar, help=limit.help)


def _plan_add(args: argparse.Namespace, config: Config) -> str:
    manage.add_plan(args.name, limits.values(vars(args)) | prices.columns(args.price, args.currency))
    return f"plan {args.name} added"


def _plan_set(args: argparse.Namespace, config: Config) -> str:
    price = prices.columns(args.price, args.currency, manage.get(Plan, args.name, "plan"))
    manage.change_plan(args.name, limits.values(vars(args)) | price)
    return f"plan {args.name} changed; {_RUNNING}"


def _plan_list(args: argparse.Namespace, config: Config) -> str:
    rows = [_plan_row(plan, args.json) for plan in Plan.select().order_by(Plan.name)]
    used = [limit.key for limit in limits.LIMITS if any(row.get(limit.key) for row in rows)]
    priced = ("price",) if any(row.get("price") for row in rows) else ()
    return show(rows, ("name", *used, *priced, "accounts"), args.json)


def _plan_row(plan: Any, exact: bool) -> dict[str, object]:
    columns = manage.plan_columns(plan)
    price = {"price_minor": plan.price_minor, "currency": plan.currency} if exact else {"price": prices.shown(plan)}
    limited = columns if exact else limits.shown(columns)
    return {"name": plan.name, **limited, **price, "accounts": plan.accounts.count()}


def _plan_remove(args: argparse.Namespace, config: Config) -> str:
    manage.remove_plan(args.name)
    return f"plan {args.name} removed"


# Pools


def _pool(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("add")
    words.add_argument("name")
    words.add_argument("range", metavar="FIRST-LAST")
    words.set_defaults(run=_pool_add)
    _list_and_remove(verbs, _pool_list, _pool_remove)


def _pool_add(args: argparse.Namespace, config: Config) -> str:
    first, _, last = args.range.partition("-")
    manage.add_pool(args.name, first.strip(), last.strip() or first.strip())
    return f"pool {args.name} added"


def _pool_list(args: argparse.Namespace, config: Config) -> str:
    return show(manage.pools(), ("name", "first", "last", "size", "held"), args.json)


def _pool_remove(args: argparse.Namespace, config: Config) -> str:
    manage.remove_pool(args.name)
    return f"pool {args.name} removed"


# Accounts


def _account(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, run in (("add", _account_add), ("set", _account_set)):
        words = verbs.add_parser(verb)
        words.add_argument("name")
        words.add_argument("--plan", required=verb == "add")
        words.add_argument("--password-stdin", action="store_true", help="read the password from the first input line")
        words.add_argument("--address", metavar="IP", help="always this address; none: as the plan says")
        words.add_argument("--valid-until", metavar="TIME", help="local date or time, such as 2027-01-31T18:00; none")
        _limit_options(words, f"instead of the plan's; {NONE}: no limit, {PLAN}: the plan's again")
        words.set_defaults(run=run)
    words.add_argument("--new-password", action="store_true", help="make up a password and print it")
    words.add_argument("--block", action=argparse.BooleanOptionalAction, help="refuse logins, or allow them again")
    _list_and_remove(verbs, _account_list, _account_remove)
    privacy_cli.add_verbs(verbs)


def _account_values(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if args.address is not None:
        values["address"] = wording.address(args.address)
    if args.valid_until is not None:
        values["valid_until"] = wording.local_time(args.valid_until, config)
    return values


def _read_password(args: argparse.Namespace) -> str | None:
    return sys.stdin.readline().rstrip("\r\n") if args.password_stdin else None


def _account_add(args: argparse.Namespace, config: Config) -> str:
    given = _read_password(args)
    values = _account_values(args, config)
    box = load_box(config.paths.state)
    own = limits.overrides({}, vars(args))
    _, password = manage.add_account(args.name, args.plan, given, box, overrides=own, **values)
    shown = f"account {args.name} added"
    return shown if given is not None else f"{shown}; its password, shown only now: {password}"


def _account_set(args: argparse.Namespace, config: Config) -> str:
    account = manage.get(Account, args.name, "account")
    values = _account_values(args, config)
    if args.plan is not None:
        values["plan"] = manage.get(Plan, args.plan, "plan")
    if args.block is not None:
        values["enabled"] = not args.block
    password = new_password() if args.new_password else _read_password(args)
    if password is not None:
        values["password"] = load_box(config.paths.state).seal(manage.password(password))
    values["overrides"] = limits.overrides(terms.overrides(account.overrides), vars(args))
    manage.change_account(account, values)
    note = f"; its password, shown only now: {password}" if args.new_password else ""
    return f"account {args.name} changed; {_RUNNING}{note}"


def _account_list(args: argparse.Namespace, config: Config) -> str:
    rows = [_account_row(account, config) for account in manage.accounts()]
    return show(rows, ("name", "plan", "enabled", "address", "valid_until", "first_login", "used", "own"), args.json)


def _account_row(account: Any, config: Config) -> dict[str, object]:
    day = period_start(manage.account_columns(account)["quota_period"], int(time.time()), config.site.timezone)
    used = manage.usage_since(account, day)
    return {
        "name": account.name,
        "plan": account.plan.name,
        "enabled": bool(account.enabled),
        "address": account.address,
        "valid_until": _shown(account.valid_until, config),
        "first_login": _shown(account.first_login_at, config),
        "used": format_bytes(used),
        "used_bytes": used,
        "own": _own_limits(account),
    }


def _own_limits(account: Any) -> str:
    own = terms.overrides(account.overrides)
    shown = limits.shown(manage.account_columns(account))
    keys = [limit.key for limit in limits.LIMITS if own.keys() & limit.none.keys()]
    return ", ".join(f"{key.replace('_', '-')} {shown[key] or NONE}" for key in keys)


def _shown(at: int | None, config: Config) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, config.site.timezone).isoformat(timespec="minutes")


def _account_remove(args: argparse.Namespace, config: Config) -> str:
    manage.remove_account(args.name)
    return f"account {args.name} removed"


# Sessions


def _session(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words = verbs.add_parser("list")
    words.add_argument("--account")
    words.add_argument("--all", action="store_true", help="also those that have ended")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_session_list)
    words = verbs.add_parser("changes", help="what routers are told about running sessions, and what came of it")
    words.add_argument("--all", action="store_true", help="also what is done or refused")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_session_changes)
    words = verbs.add_parser("remove", help="let the sessions of an account go, wherever it is online")
    words.add_argument("account")
    words.set_defaults(run=_session_remove)


def _session_list(args: argparse.Namespace, config: Config) -> str:
    rows = [_session_row(session, config) for session in manage.open_sessions(args.account, args.all)]
    columns = ("account", "nas", "mac", "address", "started", "online", "down", "up", "ended", "cause")
    return show(rows, columns, args.json)


def _session_changes(args: argparse.Namespace, config: Config) -> str:
    rows = [_change_row(change, config) for change in manage.live_changes(args.all)]
    return show(rows, ("account", "nas", "mac", "kind", "reason", "state", "tries", "since", "note"), args.json)


def _change_row(change: Any, config: Config) -> dict[str, object]:
    return {
        "account": change.session.account,
        "nas": change.session.nas,
        "mac": change.session.mac,
        "kind": change.kind,
        "reason": change.reason,
        "state": change.state,
        "rate": change.rate,
        "tries": change.tries,
        "since": _shown(change.created_at, config),
        "acknowledged": _shown(change.acknowledged_at, config),
        "ended": _shown(change.ended_at, config),
        "note": change.note,
    }


def _session_remove(args: argparse.Namespace, config: Config) -> str:
    """Each session is told to its router; the router's own Stop then ends it here."""
    sessions = manage.open_sessions(args.account)
    if not sessions:
        raise UserError(f"{args.account!r} isn't online: see `gatehouse session list`")
    box = load_box(config.paths.state)
    return "\n".join(cut(config, session, box) for session in sessions)


def _session_row(session: Any, config: Config) -> dict[str, object]:
    return {
        "account": session.account,
        "nas": session.nas,
        "acct_session_id": session.acct_session_id,
        "mac": session.mac,
        "address": session.framed_ip,
        "host_address": session.host_ip,
        "started": _shown(session.started_at, config),
        "online": format_duration(session.session_s),
        "session_s": session.session_s,
        "down": format_bytes(session.output_octets),
        "up": format_bytes(session.input_octets),
        "input_octets": session.input_octets,
        "output_octets": session.output_octets,
        "ended": _shown(session.ended_at, config),
        "cause": session.terminate_cause,
    }


def _list_and_remove(verbs: Any, list_rows: Any, remove: Any) -> None:
    words = verbs.add_parser("list")
    words.add_argument("--json", action="store_true", help="for programs: exact numbers, every field")
    words.set_defaults(run=list_rows)
    words = verbs.add_parser("remove")
    words.add_argument("name")
    words.set_defaults(run=remove)
