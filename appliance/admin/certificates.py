"""Certificates that the box shows to browsers: its own, or one that an owner brings, with a key nobody reads again."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, NamedTuple

import bottle
from cryptography.hazmat.primitives import hashes

from appliance import modules, wishes
from appliance.accounts.models import core_db
from appliance.admin import audit, settings
from appliance.admin.frame import Ask, Page
from appliance.admin.switches import waiting_url
from appliance.config import Config
from appliance.doctor import tls
from appliance.errors import UserError
from appliance.service import Upload

LOOPBACK = IPv4Address("127.0.0.1")


class Shown(NamedTuple):
    """`port` is where it is shown, None where nothing listens with TLS."""

    upload: Upload
    port: int | None
    names: str = ""
    issuer: str = ""
    until: str = ""
    fingerprint: str = ""
    error: str = ""


def overview(ask: Ask) -> Any:
    return _page(ask, "")


def _page(ask: Ask, error: str, of: str = "") -> Any:
    shown = list(_shown(settings.current(ask.config)))
    return ask.page("certificates.html", 400 if error else 200, shown=shown, error=error, of=of)


def _shown(config: Config) -> Iterator[Shown]:
    """As browsers see them, as their files are root's."""
    ports = {
        "admin.certificate": config.admin.port if config.admin.tls else None,
        "portal.certificate": config.portal.https_port if config.portal.certificate else None,
    }
    groups = [group for module in reversed(modules.running(config)) for group in module.settings]
    for upload in (upload for group in groups for upload in group.uploads if upload.name in ports):
        yield _look(upload, ports[upload.name], config.admin.listen if upload.name == "admin.certificate" else LOOPBACK)


def _look(upload: Upload, port: int | None, address: IPv4Address) -> Shown:
    if port is None:
        return Shown(upload, None)
    try:
        found = tls.shown(LOOPBACK if address.is_unspecified else address, port, "")
    except OSError as error:
        return Shown(upload, port, error=str(error))
    return Shown(
        upload,
        port,
        ", ".join(tls.names(found)) or found.subject.rfc4514_string(),
        found.issuer.rfc4514_string(),
        f"{found.not_valid_after_utc:%Y-%m-%d}",
        found.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def change(ask: Ask, name: str) -> Any:
    """A new one, or back to the own. What was brought isn't shown again, whatever is wrong with it."""
    if name not in {shown.upload.name for shown in _shown(settings.current(ask.config))}:
        raise UserError(f"there is no certificate {name!r}")
    try:
        content = b"" if "remove" in ask.form() else _brought()
        with core_db.atomic():
            done = "removed" if not content else "changed"
            audit.record(ask.person.name, done, f"certificate {name}", {}, {})
            number = wishes.wish(ask.config, ask.person.name, files={name: content})
    except UserError as error:
        return _page(ask, str(error), name)
    return ask.done(waiting_url(number, "/certificates"))


def _brought() -> bytes:
    """Chain and key, from one file or two."""
    files = [bottle.request.files.get(field) for field in ("certificate", "key")]
    parts = [file.file.read(wishes.MAX_BYTES) for file in files if file is not None]
    if not any(parts):
        raise UserError("choose the file of the certificate, and that of its key")
    return b"\n".join(parts)


PAGES = (
    Page("/certificates", overview, role="owner", nav="Certificates"),
    Page("/certificates/<name>", change, "POST", role="owner"),
)
