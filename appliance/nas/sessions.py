"""Ending a session at the router that has it."""

from ipaddress import ip_network
from typing import Any

from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.nas import coa
from appliance.nas.models import Nas


def cut(session: Any, box: SecretBox) -> str:
    """What came of it, in words; raises UserError when its router can't be told."""
    nas = Nas.get_or_none(Nas.name == session.nas)
    where = f"{session.account} at {session.nas} ({session.mac})"
    if nas is None:
        raise UserError(f"{where}: this router isn't in the list any more: see `gatehouse nas list`")
    if ip_network(nas.address).num_addresses > 1:
        raise UserError(f"{where}: {nas.address} is a network: give the router an address of its own")
    known = coa.disconnect(nas.address, nas.coa_port, box.open(nas.secret), coa.session_attributes(session))
    return f"{where}: {'let go' if known else 'the router has no such session'}"
