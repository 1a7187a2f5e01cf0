"""What became of the last try to renew the certificate: noted by root, read by those who aren't."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from appliance.config import Config
from appliance.doctor.findings import OK, WARN, Check, Finding
from appliance.files import written
from appliance.service import Attention

FAILED = "renewal-failed"  # below `paths.run`
NEAR_DAYS = 14


def note(config: Config, line: str) -> None:
    """With the end of the one in use, 0 where there is none."""
    try:
        used = x509.load_pem_x509_certificate((config.portal.certificate or Path()).read_bytes())
        until = int(used.not_valid_after_utc.timestamp())
    except (OSError, ValueError):
        until = 0
    with written(config.paths.run / FAILED, 0o644, "root", "root") as file:
        file.write(f"{until} {line}".encode())


def forget(config: Config) -> None:
    (config.paths.run / FAILED).unlink(missing_ok=True)


def _failed(config: Config) -> tuple[int, str] | None:
    try:
        until, _, line = (config.paths.run / FAILED).read_text(encoding="utf-8").partition(" ")
        return int(until), line
    except (OSError, ValueError):
        return None


def attention(config: Config, now: int) -> Iterator[Attention]:
    """For the first page, once the end is near."""
    if config.acme.enabled and (found := _failed(config)) and found[0] - now < NEAR_DAYS * 86_400:
        end = f"ends on {datetime.fromtimestamp(found[0], UTC):%Y-%m-%d}" if found[0] else "isn't there yet"
        yield Attention(f"the login page's certificate {end}, and there is no new one: {found[1]}", "/certificates")


def finding(config: Config) -> Iterator[Finding]:
    if not config.acme.enabled:
        return
    if found := _failed(config):
        remedy = "See that each name leads here from the Internet, on port 80."
        commands = ("gatehouse certificate renew",)
        yield Finding("certificate by ACME", WARN, f"There is no new one: {found[1]}.", remedy, commands)
    else:
        yield Finding("certificate by ACME", OK, "It is renewed by itself.")


CHECKS = (Check("certificate by ACME", finding),)
