"""Telling people of alerts: into the outbox of messages, and to a webhook. A thread beside the admin's pages, as the
vault's own processes reach neither."""

import contextlib
import http.client
import json
import logging
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import peewee

from appliance import mail
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import SecretBox, load_box
from appliance.errors import UserError
from appliance.vault import desk
from appliance.vault.alerts import MAIL, Alert, Notice

LOOK_S = 10
TIMEOUT_S = 10.0
AT_ONCE = 20
FIRST_PAUSE_S, LONGEST_PAUSE_S, GIVEN_UP_AFTER_S = 30, 3600, 86_400
MAX_ANSWER_BYTES = 4096

log = logging.getLogger(__name__)


def start(config: Config) -> None:
    threading.Thread(target=_serve, args=(config,), name="alerts", daemon=True).start()


def _serve(config: Config) -> None:
    box = load_box(config.paths.state)
    sender = mail.Sender(config, box)
    while True:
        time.sleep(LOOK_S)
        try:
            look(config, box, sender, int(time.time()))
        except (UserError, OSError, peewee.PeeweeException) as error:
            log.warning("alerts: %s", error)
        except Exception:  # the next ones go on
            log.exception("alerts")


def look(config: Config, box: SecretBox, sender: mail.Sender, now: int) -> None:
    with contextlib.suppress(UserError), desk.opened(config):
        tell(config, box, now)
    with core_db.connection_context():
        mail.send_unless_the_jobs_do(config, sender, "admin", now)


def tell(config: Config, box: SecretBox, now: int) -> None:
    """What is due. Who was told too late for that to be noted is told again: better twice than never."""
    due = Notice.select(Notice, Alert).join(Alert).where(Notice.next_try_at <= now)
    for notice in list(due.order_by(Notice.next_try_at, Notice.id).limit(AT_ONCE)):
        try:
            if notice.way == MAIL:
                _mail(config, box, notice, now)
            else:
                post(config.vault.alert_webhook, body(config, notice))
        except (UserError, OSError, http.client.HTTPException, peewee.PeeweeException) as error:
            _again(notice, str(error) or type(error).__name__, now)
        else:
            notice.delete_instance()


def _again(notice: Any, why: str, now: int) -> None:
    began = notice.alert.over_at if notice.over else notice.alert.since_at
    log.warning("alert %d isn't told by %s: %s", notice.alert_id, notice.way, why)
    if now >= began + GIVEN_UP_AFTER_S:
        notice.delete_instance()
        return
    pause_s = min(FIRST_PAUSE_S * 2 ** min(notice.tries, 20), LONGEST_PAUSE_S)
    values = {"tries": notice.tries + 1, "next_try_at": now + pause_s, "error": why[:300]}
    Notice.update(values).where(Notice.id == notice.id).execute()


def _mail(config: Config, box: SecretBox, notice: Any, now: int) -> None:
    if not config.vault.alert_mail:
        return
    alert = notice.alert
    subject = f"{config.site.name}: {'over: ' if notice.over else ''}{alert.text}"
    plain = "".join(letter if letter.isprintable() else " " for letter in subject)[:200]
    more = f"\n\nWhat changed the last time:\n\n{alert.detail}" if alert.detail and not notice.over else ""
    text = f"{'This is over: ' if notice.over else ''}{alert.text}{more}\n"
    with core_db.connection_context(), core_db.atomic():
        mail.post(config.vault.alert_mail, plain, text, box, now)


def body(config: Config, notice: Any) -> bytes:
    alert = notice.alert
    return json.dumps(
        {
            "site": config.site.name,
            "state": "over" if notice.over else "alert",
            "kind": alert.kind,
            "vault": alert.vault or None,
            "text": alert.text,
            "detail": alert.detail or None,
            "since": alert.since_at,
            "over": alert.over_at,
            "id": alert.id,
        }
    ).encode()


# The webhook


def post(url: str, content: bytes) -> None:
    """Follows no redirect. Raises UserError, OSError, HTTPException."""
    if not url:
        return
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    )
    with contextlib.closing(connection):
        where = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", where, content, {"Content-Type": "application/json", "User-Agent": "Gatehouse"})
        answer = connection.getresponse()
        answer.read(MAX_ANSWER_BYTES)
        if not 200 <= answer.status < 300:
            raise UserError(f"{host} says {answer.status}")
