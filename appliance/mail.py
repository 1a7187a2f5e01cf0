"""Messages to people, by SMTP. They wait in the database, so nobody waits for the server and none is lost.

The body is sealed while it waits, as it may carry a one-time link; what was sent is deleted.
"""

import contextlib
import email.errors
import email.policy
import email.utils
import logging
import mimetypes
import smtplib
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.headerregistry import Address
from email.message import EmailMessage
from typing import NamedTuple

from appliance.accounts import leases
from appliance.accounts.models import Mail
from appliance.config import EMAIL, Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.files import written
from appliance.service import is_enabled

WAITING, FAILED = "waiting", "failed"
GIVEN_UP_AFTER_S = 86_400
KEPT_S = 7 * 86_400  # what couldn't be sent, for the operator to see
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30, 3600
TIMEOUT_S = 30.0
AT_ONCE = 50
MOST_WAITING = 10_000
LEASE = "messages"  # whoever has it sends; the name of the job that does where the hotspot runs
_PASSWORD = "mail.password"  # noqa: S105 (a file's name)

log = logging.getLogger(__name__)


class Letter(NamedTuple):
    """All that a thread needs to send one."""

    id: int
    recipient: str
    subject: str
    body: str
    attachment: "Attachment | None" = None


class Attachment(NamedTuple):
    name: str
    content: bytes


class Permanent(UserError):
    """The server will say the same the next time (RFC 5321, 4.2.1: 5yz)."""


def post(
    recipient: str, subject: str, body: str, box: SecretBox, now: int, attachment: Attachment | None = None
) -> None:
    """Puts a message into the outbox, in the caller's transaction; raises UserError for an impossible one."""
    _message("a@example.net", "", Letter(0, recipient, subject, body, attachment))
    if Mail.select().count() >= MOST_WAITING:
        raise UserError("too many messages are waiting to be sent")
    sealed = box.seal(b64encode(attachment.content).decode()) if attachment else None
    Mail.create(
        recipient=recipient,
        subject=subject,
        body=box.seal(body),
        created_at=now,
        next_try_at=now,
        attachment_name=attachment.name if attachment else "",
        attachment=sealed,
    )


class Sender:
    """`run` collects what has been sent meanwhile, and hands the next to a thread: the server may be slow."""

    def __init__(self, config: Config, box: SecretBox) -> None:
        self._config = config
        self._box = box
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mail")
        self._sending: tuple[list[Letter], Future[dict[int, str | None]]] | None = None

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def run(self, now: int) -> None:
        if self._sending is not None:
            letters, outcome = self._sending
            if not outcome.done():
                return
            self._sending = None
            note(letters, outcome.result(), now)
        Mail.delete().where((Mail.state == FAILED) & (Mail.created_at < now - KEPT_S)).execute()
        if self._config.mail.host and (letters := due(self._box, now)):
            password = load_password(self._config, self._box)
            self._sending = letters, self._thread.submit(send, self._config, password, letters)


def send_unless_the_jobs_do(config: Config, sender: Sender, process: str, now: int) -> None:
    """For processes of other modules: where the hotspot is off, one of them at a time sends what waits."""
    if not is_enabled(config, "hotspot") and leases.hold(LEASE, f"{process} {socket.gethostname()}", now):
        sender.run(now)


def due(box: SecretBox, now: int) -> list[Letter]:
    rows = Mail.select().where((Mail.state == WAITING) & (Mail.next_try_at <= now)).order_by(Mail.next_try_at)
    return [_letter(box, row) for row in rows.limit(AT_ONCE)]


def _letter(box: SecretBox, row: Mail) -> Letter:
    content = b64decode(box.open(row.attachment)) if row.attachment is not None else None
    attachment = Attachment(row.attachment_name, content) if content is not None else None
    return Letter(row.id, row.recipient, row.subject, box.open(row.body), attachment)


def send(config: Config, password: str, letters: list[Letter]) -> dict[int, str | None]:
    """By id: None when the server has taken it, else why not, with a `!` before what is final. Opens no database."""
    outcome: dict[int, str | None] = {}
    try:
        with _server(config, password) as server:
            for letter in letters:
                outcome[letter.id] = _sent(server, config, letter)
    except (OSError, smtplib.SMTPException, UserError, ValueError) as error:
        return {letter.id: _why(error) for letter in letters} | outcome
    return outcome


def note(letters: list[Letter], outcome: dict[int, str | None], now: int) -> None:
    """A message whose sending was noted too late to be deleted is sent again: better twice than never."""
    for letter in letters:
        why = outcome.get(letter.id, "not sent")
        if why is None:
            Mail.delete().where(Mail.id == letter.id).execute()
            continue
        row = Mail.get_or_none(Mail.id == letter.id)
        if row is None:
            continue
        log.warning("message %d is not sent: %s", row.id, why.removeprefix("!"))
        given_up = why.startswith("!") or now >= row.created_at + GIVEN_UP_AFTER_S
        pause_s = min(FIRST_PAUSE_S * 2 ** min(row.tries, 20), LONGEST_PAUSE_S)
        values = {"state": FAILED, "body": b"", "attachment": None} if given_up else {"next_try_at": now + pause_s}
        Mail.update(tries=Mail.tries + 1, error=why.removeprefix("!"), **values).where(Mail.id == row.id).execute()


def test(config: Config, box: SecretBox, recipient: str) -> None:
    """Sends one at once; raises UserError with the server's own words."""
    if not config.mail.host:
        raise UserError(f"{config.file}: no messages are sent: fill in [mail] host and sender, then `gatehouse apply`")
    subject = f"A message from {config.site.name}"
    body = "This appliance can send messages.\n"
    why = send(config, load_password(config, box), [Letter(0, recipient, subject, body)])[0]
    if why is not None:
        raise UserError(f"{config.mail.host} port {config.mail.port}: {why.removeprefix('!')}")


def set_password(config: Config, box: SecretBox, password: str) -> None:
    """Sealed, beside the other secrets; raises UserError."""
    if not password.isprintable() or not password.isascii() or len(password) > 1000:
        raise UserError("that can't be a mail server's password here: one line of printable ASCII is needed")
    path = config.paths.state / "keys" / _PASSWORD
    if not password:
        path.unlink(missing_ok=True)
        return
    with written(path, 0o640, "root", "gatehouse-core") as file:
        file.write(box.seal(password))


def load_password(config: Config, box: SecretBox) -> str:
    """Empty where none was set."""
    try:
        return box.open((config.paths.state / "keys" / _PASSWORD).read_bytes())
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def _server(config: Config, password: str) -> Iterator[smtplib.SMTP]:
    """Logged in; raises OSError, smtplib.SMTPException."""
    mail, context = config.mail, ssl.create_default_context()
    server = (
        smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_S, context=context)
        if mail.tls == "tls"
        else smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)
    )
    with server:
        if mail.tls == "starttls":
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, password)
        yield server


def _sent(server: smtplib.SMTP, config: Config, letter: Letter) -> str | None:
    """Of one message; what ends the connection is raised."""
    try:
        server.send_message(_message(config.mail.sender, config.site.name, letter))
    except smtplib.SMTPServerDisconnected:
        raise
    except (smtplib.SMTPException, UserError, ValueError) as error:
        return _why(error)
    return None


def _why(error: Exception) -> str:
    """The server's words on one line, with a `!` before what it would say again."""
    code, text = 0, str(error) or type(error).__name__
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
        text = f"{code} {_words(said)}"
    elif isinstance(error, smtplib.SMTPResponseException):
        code, text = error.smtp_code, f"{error.smtp_code} {_words(error.smtp_error)}"
    # What concerns the operator's own login or sender may be mended within the day.
    about_the_message = isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)
    final = isinstance(error, Permanent) or (code >= 500 and about_the_message)
    return ("!" if final else "") + "".join(c if c.isprintable() else " " for c in text)[:300]


def _words(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


def _message(sender: str, name: str, letter: Letter) -> EmailMessage:
    """The library refuses line breaks in headers; an address is one address (RFC 5322, 3.4.1)."""
    if not EMAIL.fullmatch(letter.recipient):
        raise Permanent(f"{letter.recipient!r} is no e-mail address")
    if not letter.subject.isprintable():
        raise Permanent(f"{letter.subject!r} can't be a subject")
    message = EmailMessage(policy=email.policy.SMTP)
    try:
        message["From"] = Address(name, addr_spec=sender)
        message["To"] = Address(addr_spec=letter.recipient)
        message["Subject"] = letter.subject
    except (ValueError, email.errors.MessageError) as error:
        raise Permanent(f"no message can be made: {error}") from None
    message["Date"] = email.utils.localtime()
    message["Message-ID"] = email.utils.make_msgid(domain=sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5: no vacation notices
    message.set_content(letter.body, cte="quoted-printable")
    if letter.attachment is not None:
        kind = mimetypes.guess_type(letter.attachment.name)[0] or "application/octet-stream"
        main, _, sub = kind.partition("/")
        message.add_attachment(letter.attachment.content, main, sub, filename=letter.attachment.name)
    return message
