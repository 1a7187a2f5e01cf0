"""Who logs in: an account by name, a voucher in any spelling, or a device by its MAC address."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from appliance.accounts.login_writes import LoginWrites
from appliance.accounts.lookup import Lookup
from appliance.accounts.terms import Account, voucher_code
from appliance.crypto import SecretBox
from rlm_python import pairs

PROVEN: pairs.Pair = ("Auth-Type", ":=", "Proven")  # raddb's name for it
_IN_TUNNEL = "FreeRADIUS-Proxied-To"  # FreeRADIUS adds it to what comes out of an EAP tunnel
REMEMBER, FORGET = "remember", "forget"  # Connect-Info (RFC 2869, 5.11) of the own gateway, by the guest's wish
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_HIDE_THE_PASSWORD = ("CHAP-Password", "MS-CHAP-Response", "MS-CHAP2-Response", "EAP-Message")


class Login(NamedTuple):
    """`by_device` says that its MAC address was the proof; `remember` is the guest's wish for the next time."""

    account: Account
    by_device: bool = False
    remember: bool = False


def identify(request: Mapping[str, str], kind: str, lookup: Lookup, writes: LoginWrites, now: int) -> Login | None:
    """None where nobody is known by this name. Raises peewee.PeeweeException."""
    name, mac = request.get("User-Name", ""), pairs.mac(request.get("Calling-Station-Id", ""))
    wish = request.get("Connect-Info") if kind == pairs.OWN_GATEWAY else None
    if name[-1:].lower() == mac[-1:] and _MAC.fullmatch(mac) and pairs.mac(name) == mac:  # the quick look first
        if _IN_TUNNEL in request:
            return None  # WPA-Enterprise is for those who prove more than an address that all can hear
        if wish == FORGET:
            writes.forget(mac)
        return _device(mac, name, lookup, now)
    account = lookup.account(name, mac, now)
    if account is None:
        account = lookup.account(voucher_code(name), mac, now)
        if account is None or account.batch_id is None:
            return None
    return Login(account, remember=wish == REMEMBER)


def _device(mac: str, name: str, lookup: Lookup, now: int) -> Login | None:
    """A device that an account remembers, else an account of the MAC's name in our spelling or its router's."""
    account = lookup.device(mac, now)
    if account is not None and account.devices:
        return Login(account, by_device=True)
    account = lookup.account(mac, mac, now) or lookup.account(name, mac, now)
    return None if account is None else Login(account, by_device=True)


def proof(login: Login, request: Mapping[str, str], box: SecretBox) -> pairs.Pair:
    """What FreeRADIUS needs to check who it is.

    A MAC address in User-Name and Calling-Station-Id is all that such a device can show, whatever its router sends
    for a password. A voucher's code is its password; the guest's spelling counts, as CHAP hides it.
    """
    if login.by_device:
        return PROVEN
    if login.account.batch_id is None:
        return "Cleartext-Password", ":=", box.open(login.account.password)
    hidden = any(name in request for name in _HIDE_THE_PASSWORD)
    if not hidden and voucher_code(request.get("User-Password", "")) in ("", login.account.name):
        return PROVEN
    return "Cleartext-Password", ":=", request.get("User-Name", "")
