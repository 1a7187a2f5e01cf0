"""Ending a session at the router that has it."""

import time
from ipaddress import ip_network
from typing import Any

from appliance.accounts.models import LiveChange
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.nas import clients, coa, live
from appliance.nas.models import Nas


def cut(config: Config, session: Any, box: SecretBox) -> str:
    """What came of it, in words; raises UserError when its router can't be told."""
    nas = Nas.get_or_none(Nas.name == session.nas)
    where = f"{session.account} at {session.nas} ({session.mac})"
    if nas is None:
        raise UserError(f"{where}: this router isn't in the list any more: see `gatehouse nas list`")
    if nas.site and nas.site != config.site.key:
        _ask(session)
        return f"{where}: the appliance of the site {nas.site} is asked to let it go"
    address = clients.address(nas)
    if ip_network(address).num_addresses > 1:
        raise UserError(f"{where}: {address} is a network: give the router an address of its own")
    known = coa.disconnect(address, nas.coa_port, box.open(nas.secret), coa.session_attributes(session))
    return f"{where}: {'let go' if known else 'the router has no such session'}"


def _ask(session: Any) -> None:
    """Of those that tell its router."""
    now = int(time.time())
    wanted = {"kind": "disconnect", "reason": live.BY_HAND, "state": "pending", "next_try_at": now}
    if (change := live.open_changes(session).first()) is None:
        LiveChange.create(session=session, created_at=now, **wanted)
    else:
        LiveChange.update(**wanted).where(LiveChange.id == change.id).execute()
