"""What several sections of the configuration are checked for; each raises ValueError that names the key."""

import re
from pathlib import Path

# As browsers take it in type=email (HTML, 4.10.5.1.5), with a domain of two labels at least.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
HOST = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


def ports(section: object, *keys: str) -> None:
    for key in keys:
        between(section, key, 1, 65_535)


def certificate(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key: give both or neither")


def between(section: object, key: str, low: int, high: int) -> None:
    if not low <= getattr(section, key) <= high:
        raise ValueError(f"{key}: {getattr(section, key)} is not between {low} and {high}")
