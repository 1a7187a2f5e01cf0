"""The portal's and the gateway's side of RADIUS: logins, accounting, and CoA or Disconnect that comes in."""

import logging
import re
import socket
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Literal

from pyrad import packet as codec
from pyrad.dictionary import Dictionary

import appliance
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from portal.protocol import Allow
from rlm_python.speed_limits import RateLimit, parse_rate_limit

SERVER = "127.0.0.1"
NAS_IDENTIFIER = "gateway"
CALLED_STATION = "gateway:hotspot"
TRIES = 2
TRY_S = 1.5  # a guest waits for the page meanwhile
MAX_PACKET_BYTES = 4096  # RFC 2865, 3
MAX_NAME_BYTES = 253
MAX_PASSWORD_BYTES = 128  # RFC 2865, 5.2
CHOSEN_BY_NAS = (IPv4Address("255.255.255.254"), IPv4Address("255.255.255.255"))  # RFC 2865, 5.8

log = logging.getLogger(__name__)


class BadPacket(UserError):
    """What came isn't an authentic, well-formed packet; silently discarded as RFC 5176, 3.5 asks."""


class Accepted(Allow):
    """What the server granted, ready to be said to the gateway."""


@dataclass(frozen=True)
class Rejected:
    """`message` is a sentence for the guest, empty where the server gave none."""

    message: str = ""


@dataclass(frozen=True, kw_only=True)
class AccountingRecord:
    """One state of a session; octets and packets as the guest sees them, `event_at` in UTC seconds.

    `ip` is the guest's own address, `address` the public one if it has one.
    Accounting-On and -Off speak of the whole NAS: they need nothing but an id and a time.
    """

    status: Literal["Start", "Interim-Update", "Stop", "Accounting-On", "Accounting-Off"]
    session_id: str
    event_at: int
    account: str = ""
    session_class: str = ""  # hex octets
    ip: IPv4Address | None = None
    mac: str = ""
    address: IPv4Address | None = None
    session_s: int = 0
    down_octets: int = 0
    up_octets: int = 0
    down_packets: int = 0
    up_packets: int = 0
    terminate_cause: int | None = None  # RFC 2866, 5.10


@dataclass(frozen=True)
class DynamicRequest:
    """A CoA-Request or Disconnect-Request (RFC 5176); what it doesn't name is None, or empty for texts."""

    kind: Literal["disconnect", "coa"]
    session_id: str
    account: str
    address: IPv4Address | None
    host_ip: IPv4Address | None
    mac: str | None
    up_bps: int | None
    down_bps: int | None
    session_timeout_s: int | None
    idle_timeout_s: int | None
    quota_bytes: int | None
    packet: Any = field(repr=False, compare=False)  # pyrad's, for the answer


class RadiusClient:
    """Safe in threads: every call has a socket of its own, so a guest's source port is unpredictable too."""

    def __init__(self, config: Config, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._secret = secret
        self._clock = clock

    def authenticate(self, user: str, password: str, ip: IPv4Address, mac: str, wish: str = "") -> Accepted | Rejected:
        """`wish` is the guest's: "remember" this device, or "forget" it. With the MAC for a name it logs in itself.

        Raises Unavailable when no authentic answer comes within two tries.
        """
        if refusal := refuse_text(user, password):
            return Rejected(refusal)
        request = codec.AuthPacket(secret=self._secret, dict=_dictionary(), message_authenticator=True)
        request["User-Name"] = user
        request[2] = [request.PwCrypt(password)]  # by number: by name a value like b"0x41…" is taken for hex
        self._describe_nas(request)
        request["Calling-Station-Id"] = _station(mac)
        request["Framed-IP-Address"] = str(ip)
        if user == mac:
            request["Service-Type"] = "Call-Check"  # RFC 2865, 5.6
        if wish:
            request["Connect-Info"] = wish
        reply = self._exchange(self._config.radius.authentication_port, lambda: request)
        if reply.code != codec.AccessAccept:  # a challenge can't be answered here: RFC 2865, 4.4
            return Rejected(_sentence(reply))
        try:
            return _accepted(reply, user, ip, mac)
        except (UserError, ValueError) as error:
            raise Unavailable(f"the RADIUS server's answer can't be used: {error}") from None

    def account(self, record: AccountingRecord) -> None:
        """Returns when the server has it on disk; raises Unavailable when no authentic answer comes."""
        self._exchange(self._config.radius.accounting_port, lambda: self._accounting(record))

    def _accounting(self, record: AccountingRecord) -> Any:
        """A new packet a try, because its delay has grown (RFC 2866, 5.2)."""
        now = int(self._clock())
        request = codec.AcctPacket(secret=self._secret, dict=_dictionary())
        request["Acct-Status-Type"] = record.status
        request["Acct-Session-Id"] = record.session_id
        request["Event-Timestamp"] = now
        request["Acct-Delay-Time"] = max(0, now - record.event_at)
        self._describe_nas(request)
        if not record.status.startswith("Accounting-"):
            _describe_session(request, record)
        return request

    def _describe_nas(self, request: Any) -> None:
        request["NAS-Identifier"] = NAS_IDENTIFIER
        request["NAS-IP-Address"] = SERVER
        request["NAS-Port-Type"] = "Wireless-802.11"
        request["NAS-Port-Id"] = self._config.gateway.lan
        request["Called-Station-Id"] = CALLED_STATION
        request["Service-Type"] = "Login-User"

    def _exchange(self, port: int, make: Callable[[], Any]) -> Any:
        sent: list[Any] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.connect((SERVER, port))
            for _ in range(TRIES):
                sent.append(make())
                reply = _one_try(connection, sent, time.monotonic() + TRY_S)
                if reply is not None:  # a reply without attributes is an empty dict
                    return reply
        raise Unavailable(f"the RADIUS server at {SERVER}:{port} doesn't answer")


def _one_try(connection: socket.socket, sent: list[Any], deadline: float) -> Any:
    """The first authentic reply to any packet sent so far, None when none came in time."""
    try:
        connection.send(sent[-1].RequestPacket())
        while (left_s := deadline - time.monotonic()) > 0:
            connection.settimeout(left_s)
            data = connection.recv(MAX_PACKET_BYTES)
            for reply in (_verified(request, data) for request in sent):
                if reply is not None:
                    return reply
            log.warning("a reply from RADIUS port %d isn't authentic: discarded", connection.getpeername()[1])
    except TimeoutError:
        return None
    except OSError:  # nobody listens: a server that restarts is back before the next try
        time.sleep(max(0.0, deadline - time.monotonic()))
    return None


def _verified(request: Any, data: bytes) -> Any:
    """The reply if authentic, else None; for a login only with Message-Authenticator (CVE-2024-3596)."""
    codes = {
        codec.AccessRequest: (codec.AccessAccept, codec.AccessReject, codec.AccessChallenge),
        codec.AccountingRequest: (codec.AccountingResponse,),
    }
    try:
        _check_frame(data)
        reply = request.CreateReply(packet=data)
        authentic = reply.code in codes[request.code] and request.VerifyReply(reply, data, enforce_ma=True)
    except (BadPacket, codec.PacketError):
        return None
    return reply if authentic else None


def refuse_text(user: str, password: str) -> str:
    """Why this name and password can't be sent at all, as a sentence for the guest; empty when they can."""
    if not user:
        return "Please enter your name."
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in user + password):
        return "Name and password can't contain control characters."
    if len(user.encode()) > MAX_NAME_BYTES:
        return "That name is too long."
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        return "That password is too long."
    return ""


def _accepted(reply: Any, user: str, ip: IPv4Address, mac: str) -> Accepted:
    rate = _rate(reply) or RateLimit()
    address = _address(reply, "Framed-IP-Address")
    return Accepted(
        ip=ip,
        mac=mac,
        account=_text(reply, "User-Name") or user,  # RFC 2865, 5.1: the server may name the account
        session_class=(_one(reply, "Class") or b"").hex(),
        down_bps=rate.down_bps,
        up_bps=rate.up_bps,
        address=None if address in CHOSEN_BY_NAS else address,
        session_timeout_s=_one(reply, "Session-Timeout"),
        idle_timeout_s=_one(reply, "Idle-Timeout"),
        quota_bytes=_quota(reply),
        quota_reports=_one(reply, "Termination-Action") == "RADIUS-Request",
        interim_interval_s=_one(reply, "Acct-Interim-Interval"),
    )


def _sentence(reply: Any) -> str:
    """Reply-Message may come in several parts (RFC 2865, 5.18)."""
    text = b"".join(reply.get(18, [])).decode(errors="replace")
    return "".join(letter for letter in text if letter.isprintable())


def _describe_session(request: Any, record: AccountingRecord) -> None:
    request["User-Name"] = record.account
    request["Calling-Station-Id"] = _station(record.mac)
    request["Acct-Authentic"] = "RADIUS"
    request["Acct-Session-Time"] = record.session_s
    if record.ip:
        request["Mikrotik-Host-IP"] = str(record.ip)
        request["Framed-IP-Address"] = str(record.address or record.ip)
    if record.session_class:
        request[25] = [bytes.fromhex(record.session_class)]  # by number for the same reason as the password
    if record.status != "Start":
        _count(request, "Input", record.up_octets, record.up_packets)
        _count(request, "Output", record.down_octets, record.down_packets)
    if record.terminate_cause is not None:
        request["Acct-Terminate-Cause"] = record.terminate_cause


def _count(request: Any, direction: str, octets: int, packets: int) -> None:
    request[f"Acct-{direction}-Gigawords"], request[f"Acct-{direction}-Octets"] = divmod(octets, 2**32)
    request[f"Acct-{direction}-Packets"] = packets % 2**32


def decode_dynamic(data: bytes, secret: bytes) -> DynamicRequest:
    """Raises BadPacket for whatever isn't an authentic request (RFC 5176, 2.3 and 3.4)."""
    _check_frame(data)
    try:
        request = codec.CoAPacket(packet=data, secret=secret, dict=_dictionary())
        kind = _kind(request)
        rate = _rate(request)
        mac = _text(request, "Calling-Station-Id")
        return DynamicRequest(
            kind=kind,
            session_id=_text(request, "Acct-Session-Id"),
            account=_text(request, "User-Name"),
            address=_address(request, "Framed-IP-Address"),
            host_ip=_address(request, "Mikrotik-Host-IP"),
            mac=_mac(mac) if mac else None,
            up_bps=rate.up_bps if rate else None,
            down_bps=rate.down_bps if rate else None,
            session_timeout_s=_one(request, "Session-Timeout"),
            idle_timeout_s=_one(request, "Idle-Timeout"),
            quota_bytes=_quota(request),
            packet=request,
        )
    except BadPacket:
        raise
    except (codec.PacketError, UserError, ValueError) as error:
        raise BadPacket(f"not a usable packet: {error}") from None


def answer_dynamic(request: DynamicRequest, error_cause: int | None) -> bytes:
    """An ACK when `error_cause` is None, else a NAK with that Error-Cause (RFC 5176, 3.5)."""
    reply = request.packet.CreateReply(message_authenticator=True)
    if error_cause is not None:
        reply.code = codec.DisconnectNAK if request.kind == "disconnect" else codec.CoANAK
        reply["Error-Cause"] = error_cause
    answer: bytes = reply.ReplyPacket()
    return answer


def _kind(request: Any) -> Literal["disconnect", "coa"]:
    """Of an authentic request; raises BadPacket for any other."""
    if request.code not in (codec.DisconnectRequest, codec.CoARequest):
        raise BadPacket(f"code {request.code} is neither CoA-Request nor Disconnect-Request")
    if not request.VerifyCoARequest():
        raise BadPacket("Request Authenticator doesn't fit the secret")
    if request.message_authenticator and not request.verify_message_authenticator():
        raise BadPacket("Message-Authenticator doesn't fit the secret")
    return "disconnect" if request.code == codec.DisconnectRequest else "coa"


def _check_frame(data: bytes) -> None:
    """Lengths as RFC 2865, 3 and 5 want them; pyrad takes a last attribute that is cut short."""
    length = int.from_bytes(data[2:4])
    if not 20 <= length <= min(len(data), MAX_PACKET_BYTES):
        raise BadPacket("length field and packet don't fit")
    place = 20
    while place < length:
        size = data[place + 1] if place + 1 < length else 0
        if size < 2 or place + size > length:
            raise BadPacket("an attribute's length is wrong")
        place += size


def _one(packet: Any, name: str) -> Any:
    """The value of an attribute that may stand once, None when it is absent."""
    values = packet.get(name) or [None]
    if len(values) > 1:
        raise BadPacket(f"{name} stands there {len(values)} times")
    return values[0]


def _text(packet: Any, name: str) -> str:
    value = _one(packet, name)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise BadPacket(f"{name} isn't readable text")
    return value


def _address(packet: Any, name: str) -> IPv4Address | None:
    value = _one(packet, name)
    try:
        return IPv4Address(value) if value else None
    except AddressValueError:
        raise BadPacket(f"{name} isn't an address") from None


def _rate(packet: Any) -> RateLimit | None:
    text = _text(packet, "Mikrotik-Rate-Limit")
    return parse_rate_limit(text) if text else None


def _quota(packet: Any) -> int | None:
    low, high = _one(packet, "Mikrotik-Total-Limit"), _one(packet, "Mikrotik-Total-Limit-Gigawords")
    if low is None and high is None:
        return None
    return ((high or 0) << 32) + (low or 0)


def _station(mac: str) -> str:
    """RFC 3580, 3.21."""
    return mac.upper().replace(":", "-")


def _mac(text: str) -> str:
    digits = re.sub(r"[:.-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise BadPacket("Calling-Station-Id isn't a MAC address")
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


@cache
def _dictionary() -> Any:
    return Dictionary(str(Path(appliance.__file__).parent / "nas" / "dictionary"))
