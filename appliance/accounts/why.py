"""`gatehouse why`: which rule decides about an account, now or at another time. It asks the login's own rules."""

import argparse
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts import wording
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import core_db
from appliance.accounts.terms import Account
from appliance.config import Config
from appliance.errors import UserError
from appliance.nas.models import GATEWAY, Nas
from appliance.units import format_bytes, format_duration
from rlm_python import pairs
from rlm_python.authorization import Grant, Reject, authorize, changes_at
from rlm_python.speed_limits import RateLimit, format_bits_per_second

_RULES = {
    "plan": "the plan's speed",
    "window": "the window",
    "quota": "the quota is used up",
    "validity": "the validity that runs since the first login",
    "date": "the account's last day",
    "session": "the longest session",
}


def add_parser(commands: Any) -> None:
    words = commands.add_parser("why", help="which rule lets an account in or keeps it out, now or at another time")
    words.add_argument("account")
    words.add_argument("--at", metavar="TIME", help="local time, such as 2027-01-31T18:00; default: now")
    words.add_argument("--nas", metavar="NAME", help="as this router would be answered")
    words.add_argument("--mac", default="", metavar="MAC", help="as this device; others then count as online elsewhere")
    words.add_argument("--json", action="store_true")
    words.set_defaults(run=_why)


def _why(args: argparse.Namespace, config: Config) -> str:
    zone, now = config.site.timezone, int(time.time())
    at = now if args.at is None else wording.local_time(args.at, config) or now
    lookup = Lookup(core_db.obj, zone, config.radius.silent_s)
    account = lookup.account(args.account, pairs.mac(args.mac), at)
    if account is None:
        raise UserError(f"there is no account {args.account!r}: see `gatehouse account list`")
    verdict = authorize(account, zone, at)
    kind = _kind(args.nas)
    if args.json:
        return _json(verdict, account, at, kind, config)
    return "\n".join(explain(verdict, account, zone, at, kind, config.radius.interim_interval_s))


def _kind(name: str | None) -> str:
    if name is None:
        return GATEWAY
    nas = Nas.get_or_none(Nas.name == name)
    if nas is None:
        raise UserError(f"there is no nas {name!r}: see `gatehouse nas list`")
    return str(nas.kind)


def explain(
    verdict: Grant | Reject, account: Account, zone: ZoneInfo, at: int, kind: str, interim_interval_s: int
) -> Iterator[str]:
    yield f"{account.name}, plan {account.plan}, {_shown(at, zone)}"
    if isinstance(verdict, Reject):
        yield f"refused by {verdict.rule}: {verdict.message}"
        if verdict.until is not None:
            yield f"may be different from {_shown(verdict.until, zone)} on"
        return
    yield f"let in at {_speed(verdict.rate)}: {_RULES[verdict.rate_rule]}"
    if verdict.session_timeout_s is not None:
        ends = _shown(at + verdict.session_timeout_s, zone)
        yield f"ends in {format_duration(verdict.session_timeout_s)}, on {ends}: {_RULES[verdict.end_rule]}"
    if account.quota_bytes is not None:
        left = format_bytes(max(0, account.quota_bytes - account.used_bytes))
        then = f"then {_speed(_slow(account))}" if verdict.slows else "then it is cut"
        yield f"{left} of {format_bytes(account.quota_bytes)}/{account.quota_period} left, {then}"
    if account.simultaneous is not None:
        yield f"{account.other_sessions} of {account.simultaneous} devices online elsewhere"
    if (edge := changes_at(account, zone, at)) is not None:
        yield f"speed or data change on {_shown(edge, zone)}"
    if account.overrides:
        yield f"limits of its own: {account.overrides}"
    reply = pairs.reply_pairs(verdict, kind, "0x", interim_interval_s)
    yield "the router is told: " + ", ".join(f"{name} = {value}" for name, _, value in reply if name != "Class")


def _json(verdict: Grant | Reject, account: Account, at: int, kind: str, config: Config) -> str:
    granted = isinstance(verdict, Grant)
    found: dict[str, Any] = {"account": account.name, "plan": account.plan, "granted": granted}
    if isinstance(verdict, Grant):
        reply = pairs.reply_pairs(verdict, kind, "0x", config.radius.interim_interval_s)
        found |= verdict._asdict() | {"rate": pairs.rate_text(verdict.rate)}
        found["changes_at"] = changes_at(account, config.site.timezone, at)
        found["reply"] = [[name, value] for name, _, value in reply if name != "Class"]
    else:
        found |= verdict._asdict()
    return json.dumps(found, indent=2)


def _slow(account: Account) -> RateLimit:
    return RateLimit(up_bps=account.slow_up_bps, down_bps=account.slow_down_bps)


def _speed(rate: RateLimit) -> str:
    down, up = (format_bits_per_second(bps) if bps else "no limit" for bps in (rate.down_bps, rate.up_bps))
    return f"{down} down, {up} up"


def _shown(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%a %Y-%m-%d %H:%M:%S")
