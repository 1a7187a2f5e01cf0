"""An account as it stands at the moment of a login: all that the rules need, in one tuple."""

from typing import NamedTuple


class Account(NamedTuple):
    """One row of `lookup.ACCOUNT`, in its order; times are UTC seconds, None is no limit."""

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
    used_bytes: int = 0
    other_sessions: int = 0
