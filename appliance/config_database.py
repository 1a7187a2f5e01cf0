"""The section [database]."""

from dataclasses import dataclass
from pathlib import Path

_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl")


@dataclass(frozen=True)
class Database:
    """`url` is `sqlite:////absolute/path` or libpq's `postgresql://user@host1,host2/name`; empty: SQLite in `state`."""

    url: str = ""

    def __post_init__(self) -> None:
        if self.url.startswith("postgresql://"):
            try:
                check(self.url)
            except ValueError as error:
                raise ValueError(f"url: {error}") from None
        elif self.url and not self.url.startswith("sqlite:///"):
            raise ValueError("url: use sqlite:////absolute/path or postgresql://user@host/name")

    @property
    def files(self) -> tuple[Path, ...]:
        """What the URL names: the password's, and certificates."""
        if not self.url.startswith("postgresql://"):
            return ()
        found = parsed(self.url)
        return tuple(Path(found[key]) for key in _FILES if found.get(key, "system") != "system")


def check(url: str) -> None:
    """Raises ValueError, one line that says what to write instead."""
    found = parsed(url)
    for secret in ("password", "sslpassword"):
        if secret in found:
            raise ValueError(
                f"a {secret} doesn't belong into this file: write it into a file as PostgreSQL's pgpass has it,"
                " and ?passfile=/path/of/it here"
            )
    if "dbname" not in found:
        raise ValueError("the database's name is missing: postgresql://user@host/name")
    hosts, ports = (found.get(key, "").split(",") for key in ("host", "port"))
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"{len(hosts)} hosts with {len(ports)} ports: write host1:5432,host2:5432")
    for port in ports:
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{port!r} is no port")
    if (target := found.get("target_session_attrs", "read-write")) not in ("read-write", "primary"):
        raise ValueError(f"target_session_attrs={target}: write read-write, as standbys only read")
    if (mode := found.get("sslmode", "prefer")) not in _SSLMODES:
        raise ValueError(f"sslmode={mode}: write one of {', '.join(_SSLMODES)}")
    if not Path(found.get("passfile", "/")).is_absolute():
        raise ValueError(f"passfile={found['passfile']}: write a path that begins with /")


def parsed(url: str) -> dict[str, str]:
    """libpq's keywords. Raises ValueError."""
    import psycopg2  # for those who have PostgreSQL
    from psycopg2.extensions import parse_dsn

    try:
        found: dict[str, str] = parse_dsn(url)
    except psycopg2.Error as error:
        raise ValueError(str(error).strip().removeprefix("invalid dsn: ").removeprefix("invalid URI ")) from None
    return found
