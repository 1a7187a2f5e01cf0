"""What a router's fields may be: when they are typed, and again when root makes configuration of what is kept.

Many appliances may write to the database, so a row is believed no more than what comes from a form.
"""

from ipaddress import IPv4Network
from typing import Any

from appliance.accounts import manage
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.nas.models import KINDS


def name(text: str) -> str:
    return manage.name(text, "router")


def address(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise UserError(f"address: {error}; write 192.0.2.7 or 192.0.2.0/24") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def secret(text: str) -> str:
    if not text.isascii() or not text.isalnum() or not 8 <= len(text) <= 64:
        raise UserError("that can't be a shared secret: use 8 to 64 letters and digits")
    return text


def one_of(what: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise UserError(f"{what}: there is no {value!r}; there are: {', '.join(known)}")
    return value


def verify(nas: Any) -> None:
    """All of a row that is read but its secret; raises UserError for what nobody could have typed."""
    name(str(nas.name))
    address(str(nas.address))
    one_of("kind", str(nas.kind), KINDS)


def fault(nas: Any, box: SecretBox) -> str:
    """Why FreeRADIUS can't be told of it; empty where it can."""
    try:
        verify(nas)
        secret(box.open(nas.secret))
    except UserError as error:
        return str(error)
    return ""
