"""Messages to people, by SMTP. They wait in the database, so nobody waits for the server and none is lost.

The body is sealed while it waits, as it may carry a one-time link; what was sent is deleted.
"""

import logging
from base64 import b64decode, b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from appliance import db
from appliance.accounts import leases
from appliance.accounts.models import Mail, core_db
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.files import written
from appliance.service import is_enabled

WAITING, FAILED = "waiting", "failed"
GIVEN_UP_AFTER_S = 86_400
KEPT_S = 7 * 86_400  # what couldn't be sent, for the operator to see
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30, 3600
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


def post(
    recipient: str, subject: str, body: str, box: SecretBox, now: int, attachment: Attachment | None = None
) -> None:
    """Puts a message into the outbox, in the caller's transaction; raises UserError for an impossible one."""
    from appliance import smtp  # which takes 5 MB, and most processes never write one

    smtp.message("a@example.net", "", Letter(0, recipient, subject, body, attachment))
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
            from appliance import smtp

            password = load_password(self._config, self._box)
            self._sending = letters, self._thread.submit(smtp.send, self._config, password, letters)


def send_unless_the_jobs_do(config: Config, sender: Sender, process: str, now: int) -> None:
    """For processes of other modules: where the hotspot is off, one of them at a time sends what waits."""
    if is_enabled(config, "hotspot") or not is_sent_here(config):
        return
    now = db.clock(core_db.obj, now)
    if leases.hold(LEASE, f"{process} {leases.machine(config)}", now):
        sender.run(now)


def is_sent_here(config: Config) -> bool:
    """Of several appliances one without a server leaves messages to those that have one."""
    return bool(config.mail.host) or not config.fleet


def due(box: SecretBox, now: int) -> list[Letter]:
    rows = Mail.select().where((Mail.state == WAITING) & (Mail.next_try_at <= now)).order_by(Mail.next_try_at)
    return [_letter(box, row) for row in rows.limit(AT_ONCE)]


def _letter(box: SecretBox, row: Mail) -> Letter:
    content = b64decode(box.open(row.attachment)) if row.attachment is not None else None
    attachment = Attachment(row.attachment_name, content) if content is not None else None
    return Letter(row.id, row.recipient, row.subject, box.open(row.body), attachment)


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
    from appliance import smtp

    subject = f"A message from {config.site.name}"
    body = "This appliance can send messages.\n"
    why = smtp.send(config, load_password(config, box), [Letter(0, recipient, subject, body)])[0]
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
