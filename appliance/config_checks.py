"""What several sections of the configuration are checked for; each raises ValueError that names the key."""

from pathlib import Path


def ports(section: object, *keys: str) -> None:
    for key in keys:
        between(section, key, 1, 65_535)


def certificate(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key: give both or neither")


def between(section: object, key: str, low: int, high: int) -> None:
    if not low <= getattr(section, key) <= high:
        raise ValueError(f"{key}: {getattr(section, key)} is not between {low} and {high}")
