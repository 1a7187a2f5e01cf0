"""Messages handed to a mail server (RFC 5321). Opens no database."""

import contextlib
import email.errors
import email.policy
import email.utils
import mimetypes
import smtplib
import ssl
from collections.abc import Iterator
from email.headerregistry import Address
from email.message import EmailMessage

from appliance.config import EMAIL, Config
from appliance.errors import UserError
from appliance.mail import Letter

TIMEOUT_S = 30.0


class Permanent(UserError):
    """The server will say the same the next time (RFC 5321, 4.2.1: 5yz)."""


def send(config: Config, password: str, letters: list[Letter]) -> dict[int, str | None]:
    """By id: None when the server has taken it, else why not, with a `!` before what is final."""
    outcome: dict[int, str | None] = {}
    try:
        with _server(config, password) as server:
            for letter in letters:
                outcome[letter.id] = _sent(server, config, letter)
    except (OSError, smtplib.SMTPException, UserError, ValueError) as error:
        return {letter.id: _why(error) for letter in letters} | outcome
    return outcome


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
        server.send_message(message(config.mail.sender, config.site.name, letter))
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


def message(sender: str, name: str, letter: Letter) -> EmailMessage:
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
