"""The routers' secrets in plain, for those who render files from them; and the appliance's own gateway."""

from dataclasses import dataclass

from appliance.crypto import SecretBox, new_secret
from appliance.nas.models import GATEWAY, Nas


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


def read(box: SecretBox) -> list[Client]:
    """All routers by name, the own gateway among them."""
    gateway_secret(box)
    return [
        Client(
            nas.id,
            nas.name,
            nas.address,
            box.open(nas.secret),
            nas.require_message_authenticator,
            nas.kind,
            nas.radsec,
        )
        for nas in Nas.select().order_by(Nas.name)
    ]


def gateway_secret(box: SecretBox) -> str:
    """The secret between the own gateway and FreeRADIUS; made when it is asked for the first time."""
    nas = Nas.get_or_none(Nas.kind == GATEWAY)
    if nas is None:
        nas = Nas.create(name=GATEWAY, address="127.0.0.1", kind=GATEWAY, coa_port=3799, secret=box.seal(new_secret()))
    return box.open(nas.secret)
