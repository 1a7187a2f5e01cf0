"""Messages by SMTP, taken by a real server: what arrives, what is tried again, what is given up."""

import asyncio
import contextlib
import email
import email.policy
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance import certificates, config, mail
from appliance.accounts.database import open_core
from appliance.accounts.models import Mail, core_db
from appliance.config import Config
from appliance.crypto import SecretBox, load_box
from appliance.errors import UserError
from tests.lab.namespace import wait_until
from tests.unit.conftest import Gatehouse

pytestmark = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)
NOW = 1_800_000_000
PASSWORD = "correct horse"


@dataclass
class Server:
    """Takes messages as a provider's server does; what it says can be set."""

    says: str = "250 taken"
    to_recipients: str = ""
    taken: list[Envelope] = field(default_factory=list)
    logins: list[LoginPassword] = field(default_factory=list)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: Any) -> str:
        if self.to_recipients:
            return self.to_recipients
        envelope.rcpt_tos.append(to)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.says.startswith("250"):
            self.taken.append(envelope)
        return self.says

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> AuthResult:
        self.logins.append(data)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    def message(self) -> EmailMessage:
        (envelope,) = self.taken
        assert isinstance(envelope.content, bytes)
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found


@contextlib.contextmanager
def listening(server: Server, ssl_context: ssl.SSLContext | None = None, **how: Any) -> Iterator[int]:
    """Its port; the server runs in a loop of its own."""
    loop = asyncio.new_event_loop()
    made = loop.create_server(lambda: SMTP(server, loop=loop, **how), "127.0.0.1", 0, ssl=ssl_context)
    opened = loop.run_until_complete(made)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield opened.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        opened.close()
        loop.close()


@pytest.fixture
def served() -> Iterator[tuple[Server, int]]:
    """Without TLS; the server and its port."""
    server = Server()
    with listening(server) as port:
        yield server, port


@pytest.fixture
def toml_of(toml: Path) -> Any:
    before = toml.read_text()

    def written(port: int, more: str = 'tls = "none"') -> Config:
        section = f'[mail]\nhost = "localhost"\nport = {port}\nsender = "wifi@example.net"\n{more}\n'
        toml.write_text(before.replace("[site]", '[site]\nname = "Café, \\"U Lva\\""') + section)
        return config.load(toml)

    return written


@pytest.fixture
def box(toml: Path) -> Iterator[SecretBox]:
    with open_core(config.load(toml)):
        yield load_box(config.load(toml).paths.state)


def post(box: SecretBox, recipient: str = "eva@example.net", body: str = "Odkaz: http://10.10.0.1/ěš\n") -> None:
    mail.post(recipient, "Potvrďte", body, box, NOW)


def run(sender: mail.Sender, now: int) -> None:
    """Hands out what is due, and notes what came of it."""
    sender.run(now)
    if sender._sending is not None:
        sender._sending[1].result(20)
        sender.run(now)


def test_a_message_arrives_and_is_gone_from_the_database(
    served: tuple[Server, int], toml_of: Any, box: SecretBox
) -> None:
    server, port = served
    post(box)
    sender = mail.Sender(toml_of(port), box)
    run(sender, NOW)
    message = server.message()
    assert message["To"].addresses[0].addr_spec == "eva@example.net"
    assert (message["From"].addresses[0].display_name, message["Subject"]) == ('Café, "U Lva"', "Potvrďte")
    assert message.get_content().splitlines() == ["Odkaz: http://10.10.0.1/ěš"]
    assert message["Message-ID"].endswith("@example.net>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert Mail.select().count() == 0
    run(sender, NOW + 3600)
    assert len(server.taken) == 1


def test_what_is_attached_arrives_as_it_is(served: tuple[Server, int], toml_of: Any, box: SecretBox) -> None:
    server, port = served
    content = bytes(range(256)) * 500 + b"\r\n.\r\n"
    mail.post("eva@example.net", "Faktura", "Přikládáme.\n", box, NOW, mail.Attachment("GH1-00001.pdf", content))
    assert content not in bytes(Mail.get().attachment or b"")
    run(mail.Sender(toml_of(port), box), NOW)
    message = server.message()
    assert message.get_body().get_content().splitlines() == ["Přikládáme."]  # type: ignore[union-attr]
    (part,) = message.iter_attachments()
    assert (part.get_content_type(), part.get_filename()) == ("application/pdf", "GH1-00001.pdf")
    assert part.get_content() == content
    assert Mail.select().count() == 0


@pytest.mark.parametrize("field", ["recipient", "subject"])
@pytest.mark.parametrize(
    "nasty", ["a@b.cz\r\nBcc: x@y.cz", "a@b.cz\nX: y", "a@b.cz\r", "a@b.cz\0\r\n.\r\nMAIL FROM:<>"]
)
def test_no_header_is_smuggled_in(box: SecretBox, field: str, nasty: str) -> None:
    given = {"recipient": "eva@example.net", "subject": "x"} | {field: nasty}
    with pytest.raises(UserError):
        mail.post(given["recipient"], given["subject"], "x", box, NOW)
    assert Mail.select().count() == 0


def test_a_dot_alone_ends_no_message(served: tuple[Server, int], toml_of: Any, box: SecretBox) -> None:
    server, port = served
    post(box, body="one\n.\r\nMAIL FROM:<x@y.cz>\n.two\n")
    run(mail.Sender(toml_of(port), box), NOW)
    assert server.message().get_content().splitlines() == ["one", ".", "MAIL FROM:<x@y.cz>", ".two"]


def test_what_the_server_cant_take_now_is_tried_again_later_each_time(
    served: tuple[Server, int], toml_of: Any, box: SecretBox
) -> None:
    server, port = served
    server.says = "451 later"
    post(box)
    sender = mail.Sender(toml_of(port), box)
    pauses, now = [], NOW
    for _ in range(9):
        run(sender, now)
        row = Mail.get()
        pauses.append(row.next_try_at - now)
        run(sender, row.next_try_at - 1)
        assert Mail.get().tries == row.tries
        now = row.next_try_at
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    server.says = "250 taken"
    run(sender, now)
    assert (len(server.taken), Mail.select().count()) == (1, 0)


def test_a_day_later_it_is_given_up_and_a_week_later_forgotten(toml_of: Any, box: SecretBox) -> None:
    post(box)
    sender = mail.Sender(toml_of(1), box)  # nobody listens there
    run(sender, NOW + 86_399)
    assert Mail.get().state == mail.WAITING
    run(sender, Mail.get().next_try_at)
    row = Mail.get()
    assert (row.state, bytes(row.body)) == (mail.FAILED, b"")
    assert "refused" in row.error
    run(sender, NOW + 7 * 86_400 + 1)
    assert Mail.select().count() == 0


def test_a_mailbox_that_isnt_there_is_given_up_at_once_and_the_others_are_sent(
    served: tuple[Server, int], toml_of: Any, box: SecretBox
) -> None:
    server, port = served
    server.to_recipients = "550 no such user here"
    post(box)
    sender = mail.Sender(toml_of(port), box)
    run(sender, NOW)
    assert (Mail.get().state, Mail.get().error) == (mail.FAILED, "550 no such user here")
    server.to_recipients = ""
    post(box, "bob@example.net")
    run(sender, NOW)
    assert [envelope.rcpt_tos for envelope in server.taken] == [["bob@example.net"]]


def test_nobody_waits_for_a_server_that_says_nothing(toml_of: Any, box: SecretBox) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sender = mail.Sender(toml_of(silent.getsockname()[1]), box)
        post(box)
        sender.run(NOW)
        assert sender._sending is not None
        assert not sender._sending[1].done()
        sender.run(NOW)
    wait_until(sender._sending[1].done, 10, "the end of the connection")
    sender.run(NOW)
    assert Mail.get().tries == 1


@pytest.fixture
def own_certificate(toml: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate of an authority that only this test's process trusts."""
    loaded = config.load(toml)
    certificates.ensure(loaded)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    issued = certificates._issue(loaded, "localhost", key, certificates.SERVER_LIFE, usage)
    (tmp_path / "pair.pem").write_bytes(certificates._key_pem(key) + certificates._pem(issued))
    (tmp_path / "ca.pem").write_text(certificates.authority(loaded))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    return context


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_over_tls_with_the_sealed_password(
    own_certificate: ssl.SSLContext, toml_of: Any, box: SecretBox, tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    at_once, later = (own_certificate, None) if tls == "tls" else (None, own_certificate)
    how = {"tls_context": later, "auth_require_tls": tls == "starttls", "auth_required": True}
    with listening(server, at_once, authenticator=server.authenticate, **how) as port:
        loaded = toml_of(port, f'tls = "{tls}"\nuser = "wifi"')
        mail.set_password(loaded, box, "wrong")
        with pytest.raises(UserError, match="535"):
            mail.test(loaded, box, "eva@example.net")
        mail.set_password(loaded, box, PASSWORD)
        kept = (loaded.paths.state / "keys" / "mail.password").read_bytes()
        assert PASSWORD.encode() not in kept
        mail.test(loaded, box, "eva@example.net")
        assert server.message()["To"].addresses[0].addr_spec == "eva@example.net"
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(UserError, match="certificate verify failed"):
            mail.test(loaded, box, "eva@example.net")


def test_the_password_stays_here_when_the_server_offers_no_tls(
    served: tuple[Server, int], toml_of: Any, box: SecretBox
) -> None:
    server, port = served
    with pytest.raises(UserError, match="STARTTLS"):
        mail.test(toml_of(port, 'user = "wifi"'), box, "eva@example.net")
    assert (server.taken, server.logins) == ([], [])


def test_commands(served: tuple[Server, int], toml_of: Any, gatehouse: Gatehouse) -> None:
    server, port = served
    toml_of(port)
    assert gatehouse("mail", "test", "eva@example.net")[0] == 0
    assert len(server.taken) == 1
    assert "no e-mail address" in gatehouse("mail", "test", "eva")[2]
    loaded = toml_of(port)
    with core_db.connection_context():
        mail.post("eva@example.net", "Hi", "x", load_box(loaded.paths.state), int(time.time()))
    assert "eva@example.net" in gatehouse("mail", "list")[1]
    assert "sealed" in gatehouse("mail", "password", stdin="geheim\n")[1]
    assert mail.load_password(loaded, load_box(loaded.paths.state)) == "geheim"
    assert gatehouse("mail", "password", stdin="\n")[0] == 0
    assert mail.load_password(loaded, load_box(loaded.paths.state)) == ""
