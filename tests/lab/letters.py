"""What the appliance writes to guests, as the provider's mail server in the lab has taken it."""

import email
import email.policy
import re
import sys
from pathlib import Path

from tests.lab.addresses import PROVIDER
from tests.lab.world import World

_SINK = Path(__file__).with_name("mail_sink.py")


def take_mail(world: World) -> Path:
    """Starts the server; returns where the messages lie, 1.eml first."""
    folder = world.directory / "letters"
    folder.mkdir()
    world.net.popen(sys.executable, str(_SINK), str(PROVIDER), "25", str(folder), log="mail.log")
    world.net.await_listener(25)
    return folder


def text_of(letter: Path) -> str:
    message = email.message_from_bytes(letter.read_bytes(), policy=email.policy.default)
    body = message.get_body()
    assert body is not None
    return str(body.get_content())


def link_in(letter: Path) -> str:
    found = re.search(r"http://\S+", text_of(letter))
    assert found
    return found[0]
