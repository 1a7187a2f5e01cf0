"""What the vault's catalogue has, as peewee models. Times are UTC, in seconds or in `_ms`.

`_age` are milliseconds of the vault's own clock, which no setting of the machine's moves: see clock.py.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import peewee

vault_db = peewee.DatabaseProxy()

FULL, READ, DROP = "full", "read", "drop"  # kinds of a credential
GOOD, BAD, MISSING = "good", "quarantined", "missing"  # states of an object


def sql(text: str, *values: Any) -> Any:
    """A cursor. For what each upload asks, where building a query takes longer than the query; `?` on both engines."""
    database = vault_db.obj
    return database.execute_sql(text if database.param == "?" else text.replace("?", database.param), values)


class VaultModel(peewee.Model):
    """A table of vault.db."""

    class Meta:
        database = vault_db
        legacy_table_names = False


class Vault(VaultModel):
    """None is no limit, a rate of 0 too. `used_bytes` counts every version that is kept, `used_files` what is there.

    A version that gave way is kept for `keep_days`, and while it is among the `keep_versions` before the present one;
    for `lock_days` from its upload nothing erases it.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    quota_bytes = peewee.BigIntegerField(null=True)
    quota_files = peewee.BigIntegerField(null=True)
    networks = peewee.TextField(default="")
    tls_only = peewee.BooleanField(default=False)
    rate_bps = peewee.BigIntegerField(default=0)
    max_sessions = peewee.IntegerField(default=10)
    keep_days = peewee.IntegerField(default=30)
    keep_versions = peewee.IntegerField(default=3)
    lock_days = peewee.IntegerField(default=0)
    schedule = peewee.TextField(default="")
    used_bytes = peewee.BigIntegerField(default=0)
    used_files = peewee.BigIntegerField(default=0)
    created_at = peewee.BigIntegerField()
    removed_at = peewee.BigIntegerField(null=True)


class Credential(VaultModel):
    """A log-in of a vault; `password` is an argon2id hash. One of kind `drop` can only bring new files."""

    id = peewee.AutoField()
    vault = peewee.ForeignKeyField(Vault, backref="credentials")
    login = peewee.TextField(unique=True)
    password = peewee.TextField()
    kind = peewee.TextField(default=FULL)
    networks = peewee.TextField(default="")
    created_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField(null=True)
    used_from = peewee.TextField(default="")


class Object(VaultModel):
    """A content, once, however many versions have it."""

    sha256 = peewee.TextField(primary_key=True)
    bytes = peewee.BigIntegerField()
    stored_at = peewee.BigIntegerField()
    verified_at = peewee.BigIntegerField()
    state = peewee.TextField(default=GOOD)


class Version(VaultModel):
    """Its number is that of the event that brought it. `left_age` is when it gave way, None before that.

    One that isn't `confirmed` may be half a file, `why` says how it ended; it is never the present one by itself.
    """

    id = peewee.BigIntegerField(primary_key=True)
    vault = peewee.ForeignKeyField(Vault, backref="versions")
    path = peewee.TextField()
    sha256 = peewee.TextField()
    bytes = peewee.BigIntegerField()
    confirmed = peewee.BooleanField()
    why = peewee.TextField(default="")
    stored_ms = peewee.BigIntegerField()
    stored_age = peewee.BigIntegerField()
    left_age = peewee.BigIntegerField(null=True)
    locked_age = peewee.BigIntegerField(default=0)
    login = peewee.TextField(default="")
    address = peewee.TextField(default="")


class Span(VaultModel):
    """From when until when, half-open, a version was seen at a path; a folder has no version."""

    id = peewee.AutoField()
    vault = peewee.ForeignKeyField(Vault)
    folder = peewee.TextField()
    name = peewee.TextField()
    version = peewee.ForeignKeyField(Version, null=True, backref="spans")
    modified_s = peewee.BigIntegerField()
    from_ms = peewee.BigIntegerField()
    until_ms = peewee.BigIntegerField(null=True)


class Event(VaultModel):
    """What the manifest says, for lists."""

    n = peewee.BigIntegerField(primary_key=True)
    vault = peewee.ForeignKeyField(Vault)
    at_ms = peewee.BigIntegerField()
    event = peewee.TextField()
    path = peewee.TextField(default="")
    target = peewee.TextField(default="")
    version_id = peewee.BigIntegerField(null=True)
    bytes = peewee.BigIntegerField(null=True)
    login = peewee.TextField(default="")
    address = peewee.TextField(default="")


class Reservation(VaultModel):
    """Room that an upload has for itself until it is settled; its spool file is locked for as long as it lives."""

    id = peewee.AutoField()
    vault = peewee.ForeignKeyField(Vault)
    spool = peewee.TextField(unique=True)
    path = peewee.TextField()
    bytes = peewee.BigIntegerField()
    files = peewee.IntegerField()
    login = peewee.TextField(default="")
    at_ms = peewee.BigIntegerField()


class Head(VaultModel):
    """One row: the manifest's last record that the catalogue has, the two clocks, and which catalogue it is."""

    id = peewee.IntegerField(primary_key=True)
    n = peewee.BigIntegerField()
    sha256 = peewee.TextField()
    bytes = peewee.BigIntegerField()
    at_ms = peewee.BigIntegerField()
    age_ms = peewee.BigIntegerField()
    boot = peewee.TextField(default="")
    boot_ms = peewee.BigIntegerField(default=0)
    catalogue = peewee.TextField(default="")


@dataclass(slots=True)
class Position:
    """Head's row, as each change reads and writes it."""

    n: int
    sha256: str
    bytes: int
    at_ms: int
    age_ms: int
    boot: str
    boot_ms: int

    @classmethod
    def read(cls) -> "Position":
        row = sql("SELECT n, sha256, bytes, at_ms, age_ms, boot, boot_ms FROM head WHERE id = 1").fetchone()
        return cls(*row)

    def save(self) -> None:
        text = "UPDATE head SET n = ?, sha256 = ?, bytes = ?, at_ms = ?, age_ms = ?, boot = ?, boot_ms = ? WHERE id = 1"
        sql(text, *astuple(self))


class Asked(VaultModel):
    """What somebody wants who may not write to the disk; the keeper does it, and answers."""

    id = peewee.AutoField()
    verb = peewee.TextField()
    arguments = peewee.TextField()
    at_ms = peewee.BigIntegerField()
    answer = peewee.TextField(null=True)


class Learned(VaultModel):
    """How often a series of files comes (`series` is their common name), as learned from its versions."""

    id = peewee.AutoField()
    vault = peewee.ForeignKeyField(Vault)
    series = peewee.TextField()
    every_s = peewee.BigIntegerField()
    last_at = peewee.BigIntegerField()
    samples = peewee.IntegerField()
    late_since = peewee.BigIntegerField(null=True)


class Fault(VaultModel):
    """What went wrong with a disk or an object, until it is over. `mount` is the mount that it happened on."""

    id = peewee.AutoField()
    kind = peewee.TextField()
    subject = peewee.TextField()
    text = peewee.TextField()
    at_ms = peewee.BigIntegerField()
    mount = peewee.TextField(default="")
    over_ms = peewee.BigIntegerField(null=True)


class Replica(VaultModel):
    """A second copy, at `place`, by its disk's own number. `head` is how far it is, `cursor` how far it is verified
    since `verified_at`, when all of it was; `bad` contents were found in it."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    place = peewee.TextField()
    head_n = peewee.BigIntegerField(default=0)
    head = peewee.TextField(default="")
    pulled_at = peewee.BigIntegerField(null=True)
    verified_at = peewee.BigIntegerField(null=True)
    cursor = peewee.TextField(default="")
    bad = peewee.IntegerField(default=0)
    problem = peewee.TextField(default="")


class Failed(VaultModel):
    """A log-in that failed, by login or by address, so that a restart forgives nobody."""

    id = peewee.AutoField()
    subject = peewee.TextField()
    at_ms = peewee.BigIntegerField()


class Chore(VaultModel):
    """Who does a job of the keeper, until when, and when it was last done."""

    name = peewee.TextField(primary_key=True)
    holder = peewee.TextField(default="")
    held_until = peewee.BigIntegerField(default=0)
    done_at = peewee.BigIntegerField(default=0)


class How(StrEnum):
    """What a client asked for: a file of its own, or more of one that is there."""

    STORE, APPEND, RESUME, UNIQUE = "store", "append", "resume", "unique"


class Who(NamedTuple):
    """Who does something, from where; `kind` is the credential's."""

    login: str = ""
    address: str = ""
    kind: str = FULL


class End(NamedTuple):
    """Whether the server has proof that all has come, and what speaks against it.

    `again` is asked once more when all is on disk, just before it counts: of a client that was killed, one connection
    may seem well for a moment after the other has ended.
    """

    clean: bool
    why: str = ""
    again: Callable[[], str] = lambda: ""


class Entry(NamedTuple):
    """A file or a folder, as a list shows it."""

    name: str
    is_folder: bool
    bytes: int
    modified_at: int
    sha256: str
    version: int


class Refused(Exception):
    """What an FTP client is told. `version` is what was kept all the same, without proof that it is whole."""

    def __init__(self, code: int, text: str, version: Any = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.version = version
