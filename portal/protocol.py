"""The verbs between the portal, which faces guests and has no privileges, and the gateway daemon.

The gateway takes nothing else from anybody, so this file is all that a compromised portal could say to it.
"""

import re
import typing
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from appliance import verbs
from appliance.verbs import TIMEOUT_S


@dataclass(frozen=True)
class Allow:
    """Let this pair of MAC and IP online as the RADIUS server granted it; an earlier session of it is ended.

    Rates are bits per second, 0 for no limit; None means that the server set no such limit.
    `address` is the public address for one-to-one NAT. With `quota_reports` the quota's end is reported and
    cuts nobody.
    """

    ip: IPv4Address
    mac: str
    account: str
    session_class: str  # hex octets of Class (RFC 2865, 5.25), given back in accounting
    down_bps: int
    up_bps: int
    address: IPv4Address | None = None
    session_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    quota_bytes: int | None = None
    interim_interval_s: int | None = None
    quota_reports: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", self.mac):
            raise ValueError("mac: six lower-case octets with ':' are needed")
        if not re.fullmatch(r"([0-9a-f]{2})*", self.session_class):
            raise ValueError("session_class: hex octets are needed")
        if not self.account or len(self.account.encode()) > 253:
            raise ValueError("account: 1 to 253 bytes are needed")
        for key in (
            "down_bps",
            "up_bps",
            "session_timeout_s",
            "idle_timeout_s",
            "quota_bytes",
            "interim_interval_s",
        ):
            value = getattr(self, key)
            if value is not None and not 0 <= value < 2**63:
                raise ValueError(f"{key}: {value} is out of range")


@dataclass(frozen=True)
class Logout:
    """The guest at this address asks to leave."""

    ip: IPv4Address


@dataclass(frozen=True)
class Who:
    """What the gateway knows about this address."""

    ip: IPv4Address


@dataclass(frozen=True)
class Close:
    """End every session and let nobody in until the gateway is started anew."""


Request = Allow | Logout | Who | Close
_VERBS = verbs.Verbs({"allow": Allow, "logout": Logout, "who": Who, "close": Close})


@dataclass(frozen=True)
class Answer:
    """The state of the address that was asked for, after the verb.

    Octets are as the guest sees them: `down_octets` came to the guest. `ended` is the RADIUS
    Acct-Terminate-Cause (RFC 2866, 5.10) of this address's last session when nobody is online there.
    """

    online: bool
    account: str = ""
    mac: str = ""
    address: IPv4Address | None = None
    online_s: int = 0
    remaining_s: int | None = None
    down_octets: int = 0
    up_octets: int = 0
    remaining_bytes: int | None = None
    ended: int | None = None


def encode(message: Request | Answer) -> bytes:
    """One line; an Answer carries no verb."""
    return verbs.encode_answer(message) if isinstance(message, Answer) else _VERBS.encode(message)


def decode_request(line: bytes) -> Request:
    """Raises BadRequest for anything that isn't exactly one of the verbs."""
    return typing.cast(Request, _VERBS.decode(line))


def decode_answer(line: bytes) -> Answer:
    """Raises UserError with the gateway's own words where it refused."""
    return typing.cast(Answer, verbs.decode_answer(Answer, line))


class GatewayClient:
    """The portal's side of the socket; a fresh connection a request, so that a restarted gateway isn't noticed."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def ask(self, request: Request) -> Answer:
        """Raises Unavailable when the gateway doesn't answer in time, UserError when it refuses."""
        return decode_answer(verbs.ask(self._path, encode(request), self._timeout_s, "the gateway"))
