"""An account as it stands at the moment of a login: all that the rules need, in one tuple."""

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

# Of vouchers. No look-alikes (0/o, 1/l/i), and no vowels, so that no code is a word.
ALPHABET = "bcdfghjkmnpqrstvwxyz23456789"
_SEPARATORS = re.compile(r"[\s-]+")


class Account(NamedTuple):
    """One row of `lookup.ACCOUNT`, in its order; times are UTC seconds, None is no limit.

    `overrides` is empty, or JSON: the plan's columns by name that are different for this account.
    `batch_id` is there for vouchers only, `unused_until` is when an unused one expires.
    """

    id: int
    name: str
    password: bytes
    enabled: bool
    address: str | None
    valid_until: int | None
    first_login_at: int | None
    plan: str
    rate_down_bps: int
    rate_up_bps: int
    windows: str
    session_timeout_s: int | None
    validity_s: int | None
    quota_bytes: int | None
    quota_period: str
    simultaneous: int | None
    pool_id: int | None
    burst: str = ""
    idle_timeout_s: int | None = None
    slow_down_bps: int = 0
    slow_up_bps: int = 0
    devices: int = 0
    router_pool: str = ""
    filter_id: str = ""
    vlan: int | None = None
    attributes: str = ""
    overrides: str = ""
    batch_id: int | None = None
    unused_until: int | None = None
    changed_at: int = 0
    used_bytes: int = 0
    other_sessions: int = 0


OVERRIDABLE = (
    "rate_down_bps",
    "rate_up_bps",
    "burst",
    "windows",
    "session_timeout_s",
    "idle_timeout_s",
    "validity_s",
    "quota_bytes",
    "quota_period",
    "slow_down_bps",
    "slow_up_bps",
    "simultaneous",
    "devices",
    "pool_id",
    "router_pool",
    "filter_id",
    "vlan",
    "attributes",
)


def effective(account: Account) -> Account:
    """The account with its own limits in place of its plan's."""
    return account._replace(**overrides(account.overrides)) if account.overrides else account


@lru_cache(maxsize=1024)
def overrides(text: str) -> dict[str, Any]:
    """What an account's `overrides` say; names this version doesn't know are left out."""
    found = json.loads(text) if text else {}
    return {name: value for name, value in found.items() if name in OVERRIDABLE}


def voucher_code(text: str) -> str:
    """As vouchers are stored: people type spaces, dashes and capitals."""
    return _SEPARATORS.sub("", text).lower()
