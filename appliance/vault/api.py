"""Vaults for programs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from appliance.api.resources import Call, Field, Report, Resource, Values
from appliance.api.shapes import MAX_NUMBER, TIME, Flag, Maybe, Number, Part, Text
from appliance.api.web import routes
from appliance.errors import UserError
from appliance.vault import alerts, desk, vaults
from appliance.vault.models import Vault, vault_db

MOST = 1000
COUNT = Number(0, MAX_NUMBER)
_GIVEN = tuple(key for key in vaults.SETTABLE)


def _query(call: Call, asked: Values) -> Any:
    with desk.opened(call.config):
        return Vault.select().where(Vault.removed_at.is_null())


def _find(call: Call, key: str) -> Any:
    with desk.opened(call.config):
        return Vault.get_or_none((Vault.name == key) & Vault.removed_at.is_null())


def _show(call: Call, rows: Sequence[Any]) -> list[Values]:
    shown = ("name", *_GIVEN, "used_bytes", "used_files", "created_at")
    return [{key: getattr(row, key) for key in shown} | {"tls_only": bool(row.tls_only)} for row in rows]


def _settings(given: Values) -> Values:
    found = {key: given[key] for key in _GIVEN if key in given}
    return found | ({"schedule": alerts.schedule(found["schedule"])} if "schedule" in found else {})


@contextmanager
def _alone(call: Call) -> Iterator[None]:
    with desk.opened(call.config), vault_db.atomic():
        yield


def _add(call: Call, given: Values) -> tuple[str, Values]:
    vault = vaults.create(given["name"], **_settings(given))
    return vault.name, {"password": vaults.add_login(vault, str(given.get("login", given["name"])))}


def _change(call: Call, row: Any, given: Values) -> Values:
    vaults.change(row, **_settings(given))
    return {}


def _remove(call: Call, row: Any) -> Values:
    vaults.remove(row)
    return {}


def _files(call: Call, given: Values) -> Values:
    at_ms = given["at"] * 1000 + 999 if "at" in given else None
    with desk.opened(call.config) as store:
        entries = store.entries(_vault(given), given.get("path", "/"), at_ms)
        items = [
            {
                "name": entry.name,
                "folder": entry.is_folder,
                "bytes": entry.bytes,
                "modified_at": max(0, entry.modified_at),
                "sha256": entry.sha256 or None,
                "version": entry.version or None,
            }
            for _, entry in zip(range(given.get("limit", MOST)), entries, strict=False)
        ]
    return {"items": items}


def _vault(given: Values) -> Any:
    if "vault" not in given:
        raise UserError("vault: say which")
    return vaults.named(given["vault"])


def _versions(call: Call, given: Values) -> Values:
    with desk.opened(call.config) as store:
        vault, path = _vault(given), given.get("path", "/")
        present = store.entry(vault, path)
        items = [
            {
                "version": one.id,
                "bytes": one.bytes,
                "sha256": one.sha256,
                "stored_at": one.stored_ms // 1000,
                "confirmed": bool(one.confirmed),
                "present": present is not None and present.version == one.id,
                "restorable": worth.restorable if (worth := desk.worth(store, vault, path, one)) else None,
                "doubts": "; ".join(worth.doubts) if worth else "",
                "login": one.login,
                "address": one.address,
            }
            for one in store.versions(vault, path)[: given.get("limit", 100)]
        ]
    return {"items": items}


def _alerts(call: Call, given: Values) -> Values:
    with desk.opened(call.config):
        found = alerts.opened_ones()
    keys = ("id", "kind", "vault", "text", "since_at")
    return {"items": [{key: getattr(one, key) for key in keys} for one in found]}


VAULTS = Resource(
    name="vaults",
    one="vault",
    about="Places for files that come by FTP. A new one has a log-in, whose password is shown only then.",
    fields=(
        Field("name", Text(max=63), "a-z, 0-9, '.', '_' and '-'", new=True, needed=True),
        Field("login", Text(max=63), "its log-in; as it is called unless it is said", new=True, shown=False),
        Field("quota_bytes", Maybe(Number(1, MAX_NUMBER)), "at most, old versions included", new=True, change=True),
        Field("quota_files", Maybe(Number(1, 10**9)), "at most", new=True, change=True),
        Field("rate_bps", Number(0, 10**12), "of each transfer at most, 0: any", new=True, change=True),
        Field("max_sessions", Number(1, 1000), "at once", new=True, change=True),
        Field("keep_days", Number(0, 36_500), "that an old version stays", new=True, change=True),
        Field("keep_versions", Number(0, 100_000), "of each file that stay in any case", new=True, change=True),
        Field("lock_days", Number(0, 36_500), "from an upload on that nothing erases it", new=True, change=True),
        Field(
            "networks", Text(max=2000, min=0), "that may log in, parted by spaces; empty: any", new=True, change=True
        ),
        Field("tls_only", Flag(), "no log-in in clear", new=True, change=True),
        Field("schedule", Text(max=20, min=0), "of uploads: 1d; empty: learned; none", new=True, change=True),
        Field("used_bytes", COUNT, "kept, old versions included"),
        Field("used_files", COUNT, "that are there now"),
        Field("created_at", TIME, "UTC seconds"),
        Field("password", Text(), "of the log-in", shown=False, once=True),
    ),
    sample={"name": "office"},
    query=_query,
    order=(Vault.id,),
    find=_find,
    show=_show,
    add=_add,
    change=_change,
    alone=_alone,
    remove=_remove,
)
_IN = Part("vault", Text(max=63), "its name")
FILES = Report(
    name="vault-files",
    one="file of a vault",
    about="A folder of a vault, as it is or as it was.",
    parts=(
        _IN,
        Part("path", Text(max=1024), "the folder, / unless it says otherwise"),
        Part("at", TIME, "UTC seconds; now unless it says otherwise"),
        Part("limit", Number(1, MOST), f"how many at most, {MOST} unless it says otherwise"),
    ),
    fields=(
        Part("name", Text(), "without its folder"),
        Part("folder", Flag(), "whether it is one"),
        Part("bytes", COUNT, "0 for a folder"),
        Part("modified_at", TIME, "UTC seconds"),
        Part("sha256", Text(), "of what is in it"),
        Part("version", COUNT, "its number"),
    ),
    read=_files,
)
VERSIONS = Report(
    name="vault-versions",
    one="version of a file",
    about="All versions of a path that are kept, the newest first.",
    parts=(
        _IN,
        Part("path", Text(max=1024), "the file"),
        Part("limit", Number(1, MOST), "how many at most, 100 unless it says otherwise"),
    ),
    fields=(
        Part("version", COUNT, "its number"),
        Part("bytes", COUNT, "octets"),
        Part("sha256", Text(), "of what is in it"),
        Part("stored_at", TIME, "UTC seconds"),
        Part("confirmed", Flag(), "there is proof that it is whole"),
        Part("present", Flag(), "it is what is there now"),
        Part("restorable", Flag(), "for routers' backups"),
        Part("doubts", Text(min=0), "why not, or what to look at"),
        Part("login", Text(min=0), "who brought it"),
        Part("address", Text(min=0), "from where"),
    ),
    read=_versions,
)
ALERTS = Report(
    name="vault-alerts",
    one="alert",
    about="What somebody has to look at now.",
    parts=(),
    fields=(
        Part("id", COUNT, "its number"),
        Part("kind", Text(), "late, quota, disk, contents, copy, backup or history"),
        Part("vault", Text(min=0), "whose; empty where it is about all of them"),
        Part("text", Text(), "a sentence"),
        Part("since_at", TIME, "UTC seconds"),
    ),
    read=_alerts,
)

RESOURCES = (VAULTS,)
REPORTS = (FILES, VERSIONS, ALERTS)
PAGES = routes(*RESOURCES, *REPORTS)
