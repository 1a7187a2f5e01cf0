"""The verbs between the portal, which opens no database, and the admin's process, which writes for guests.

Nothing else is taken there, so this file is all that a compromised portal could ask for: what any guest may ask
about the device in their hand. What is typed comes with hard limits; the rules are in accounts/registration.py.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.config import Paths
from appliance.verbs import Verbs

MAX_NAME, MAX_CONTACT, MAX_TOKEN = 100, 254, 64

UNCONFIRMED, WAITING, ACCEPTED, REFUSED = "unconfirmed", "waiting", "accepted", "refused"  # states of a registration

# Why something wasn't done; the portal has a sentence for each.
USED_UP = {period: f"used up {period}" for period in ("day", "week", "month", "total")}  # until the next one
OFF, BUSY, FULL, BAD_NAME, BAD_EMAIL, BAD_CONTACT, BAD_LINK = (
    "off", "busy", "full", "bad name", "bad email", "bad contact", "bad link"
)  # fmt: skip


def socket_path(paths: Paths) -> Path:
    """In a directory of its own, which the portal's group may enter and which gives it to the socket (setgid)."""
    return paths.run / "guests" / "guests.sock"


@dataclass(frozen=True)
class _OfDevice:
    """`mac` is the device that asks, by its lease."""

    mac: str

    def __post_init__(self) -> None:
        _mac(self.mac)


@dataclass(frozen=True)
class Free(_OfDevice):
    """Free access for this device: the login that is its own."""


@dataclass(frozen=True)
class Register(_OfDevice):
    """This guest has typed who they are, and accepted the terms."""

    name: str
    contact: str
    language: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _short("name", self.name, MAX_NAME)
        _short("contact", self.contact, MAX_CONTACT)
        if not re.fullmatch(r"[a-z]{2,3}", self.language):
            raise ValueError("language: two or three letters are needed")


@dataclass(frozen=True)
class Standing(_OfDevice):
    """How this device's registration stands."""


@dataclass(frozen=True)
class Confirm(_OfDevice):
    """The link in a mail was followed."""

    token: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _short("token", self.token, MAX_TOKEN)


@dataclass(frozen=True)
class Devices(_OfDevice):
    """Which devices the account that is online on this one remembers."""

    account: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _short("account", self.account, 253)


@dataclass(frozen=True)
class Forget(Devices):
    """One of them is to be asked for a login again."""

    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _mac(self.device)


Request = Free | Register | Standing | Confirm | Devices | Forget
VERBS = Verbs(
    {"free": Free, "register": Register, "standing": Standing, "confirm": Confirm, "forget": Forget, "devices": Devices}
)


@dataclass(frozen=True)
class Answer:
    """`refusal` is empty when it was done. `login` and `password` are there when this device may log in with them.

    `devices` are MAC addresses, the one that was used last first; `most` is how many the plan remembers.
    """

    refusal: str = ""
    state: str = ""
    login: str = ""
    password: str = ""
    devices: tuple[str, ...] = ()
    most: int = 0


def _mac(text: str) -> None:
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise ValueError("mac: six lower-case octets with ':' are needed")


def _short(key: str, text: str, most: int) -> None:
    if len(text) > most or not text.isprintable():
        raise ValueError(f"{key}: at most {most} printable characters are needed")
