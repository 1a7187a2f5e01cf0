"""The routers' secrets in plain, for those who render files from them; and the appliance's own gateway."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import peewee

from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox, new_secret
from appliance.errors import Conflict, UserError
from appliance.nas import fields
from appliance.nas.models import GATEWAY, Nas

HERE = "127.0.0.1"  # where the own gateway asks from, and is told
_ELSEWHERE = IPv4Network("127.84.0.0/16")  # what tells the gateways of sites apart in one table; nothing is sent there

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """A router as FreeRADIUS's clients.conf knows it; `secret` is in plain, `id` the row's."""

    id: int
    name: str
    address: str
    secret: str
    require_message_authenticator: bool
    kind: str
    radsec: bool


def read(config: Config, box: SecretBox) -> list[Client]:
    """The routers that this appliance serves, by name, its own gateway among them."""
    gateway(config, box)
    return list(_usable(config, box))


def _usable(config: Config, box: SecretBox) -> Iterator[Client]:
    """One row that isn't doesn't keep the others from being served; the doctor names it too."""
    for nas in Nas.select().where(served(config)).order_by(Nas.name):
        if why := fields.fault(nas, box):
            log.error("router %r is left out: %s", nas.name, why)
            continue
        yield Client(
            nas.id,
            nas.name,
            address(nas),
            box.open(nas.secret),
            nas.require_message_authenticator,
            nas.kind,
            nas.radsec,
        )


def served(config: Config) -> Any:
    """The condition for a router: of this site, or of none."""
    if not config.fleet:
        return Nas.site.is_null()
    return (Nas.site == config.site.key) | (Nas.site.is_null() & (Nas.kind != GATEWAY))


def must_be_served(config: Config, nas: Any) -> None:
    """For what would lead the router here, or tells how it is known here."""
    if config.fleet and nas.site not in (None, config.site.key):
        raise UserError(f"router {nas.name} is of the site {nas.site}: do that on the appliance there, which serves it")


def address(nas: Any) -> str:
    """Where it asks from and is told."""
    return HERE if nas.kind == GATEWAY else str(nas.address)


def gateway_secret(config: Config, box: SecretBox) -> str:
    """The secret between the own gateway and FreeRADIUS."""
    return box.open(gateway(config, box).secret)


def own_gateway(config: Config) -> Any:
    """Its row, None where it was never asked for."""
    site = Nas.site == config.site.key if config.fleet else Nas.site.is_null()
    return Nas.get_or_none((Nas.kind == GATEWAY) & site)


def own_name(config: Config) -> str:
    """What sessions call it."""
    nas = own_gateway(config)
    return str(nas.name) if nas is not None else GATEWAY


def gateway(config: Config, box: SecretBox) -> Any:
    """The own gateway's row, made when it is asked for the first time.

    An appliance that was the only one until now takes its gateway along, with the sessions that bear its name.
    """
    if (nas := own_gateway(config)) is None:
        with core_db.atomic():
            nas = _adopted(config) or _new(config, box)
    if nas.coa_port != config.gateway.coa_port:
        nas.coa_port = config.gateway.coa_port
        nas.save(only=[Nas.coa_port])
    return nas


def _adopted(config: Config) -> Any:
    alone = (Nas.kind == GATEWAY) & Nas.site.is_null()
    if config.fleet and Nas.update(site=config.site.key).where(alone).execute():
        return own_gateway(config)
    return None


def _new(config: Config, box: SecretBox) -> Any:
    site = config.site.key if config.fleet else None
    name = f"{GATEWAY}-{site}" if site else GATEWAY
    values = {"kind": GATEWAY, "coa_port": config.gateway.coa_port, "site": site, "secret": box.seal(new_secret())}
    try:
        with core_db.atomic():
            return Nas.create(name=name, address=next(_free()) if site else HERE, **values)
    except peewee.IntegrityError:
        raise Conflict(f"a router has the name {name!r} or the address of the own gateway: remove it first") from None


def _free() -> Iterator[str]:
    taken = {str(nas.address) for nas in Nas.select(Nas.address).where(Nas.kind == GATEWAY)}
    yield from (str(host) for host in _ELSEWHERE.hosts() if str(host) not in taken)
    raise UserError(f"there are gateways at all of {_ELSEWHERE}")
