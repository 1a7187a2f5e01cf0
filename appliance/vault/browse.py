"""Looking through a vault: the same for the admin's pages and for a vault user's own."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import Any
from urllib.parse import urlencode

from appliance.admin.frame import Ask
from appliance.admin.lists import Choice, Column, List, Row
from appliance.admin.rows import By, Rows
from appliance.config import Config
from appliance.errors import UserError
from appliance.units import format_bytes
from appliance.vault import asking, desk, diff, history, paths
from appliance.vault.models import Event, Span, Version
from appliance.vault.routeros import Verdict
from appliance.vault.store import Store

DOWNLOADS = 2  # at once, as each holds one of the few threads for as long as it takes
TABS = (("", "Vault"), ("files", "Files"), ("deleted", "Deleted"), ("events", "Timeline"))
EVENTS = {
    "store": "stored",
    "unconfirmed": "came without proof of its end",
    "delete": "deleted",
    "rename": "renamed",
    "mkdir": "folder made",
    "rmdir": "folder removed",
    "restore": "made the present one",
    "touch": "time set",
    "expire": "erased, as its time was over",
    "lock": "locked",
}
_JUDGED = (".backup", ".rsc")


@dataclass(frozen=True)
class Room:
    """A vault, and where its pages are. Who looks `may` make old versions the present ones, `may_get` contents, and
    `may_rewind` all of it; a vault user has a `login`."""

    vault: Any
    base: str
    may: bool
    may_get: bool = True
    may_rewind: bool = False
    tabs: Sequence[tuple[str, str]] = TABS
    login: str = ""

    def url(self, page: str, **asked: object) -> str:
        given = urlencode({key: str(value) for key, value in asked.items() if value not in ("", None)})
        return f"{self.base}/{page}" + (f"?{given}" if given else "")

    @property
    def values(self) -> dict[str, Any]:
        return {"room": self, "vault": self.vault}


def files(ask: Ask, store: Store, room: Room) -> Any:
    """A folder, as it is, or as it was at a time that stands in the URL."""
    asked, zone = ask.query(), ask.config.site.timezone
    folder, at_text = paths.clean(asked.get("path", "/")), asked.get("at", "")
    at_ms = desk.moment(at_text, zone)
    exporting = "format" in asked
    rows = [
        {
            "name": entry.name,
            "folder": entry.is_folder,
            "bytes": None if entry.is_folder else entry.bytes,
            "modified_at": entry.modified_at,
            "sha256": entry.sha256,
            "version": entry.version or None,
            "path": paths.join(folder, entry.name),
        }
        for entry in store.entries(room.vault, folder, at_ms)
    ]
    of = List(
        title=folder if folder != paths.ROOT else "All files",
        query=Rows(rows),
        columns=(
            Column(
                "name",
                "Name",
                By(lambda row: (not row["folder"], row["name"])),
                link=lambda row: _link(room, row, at_text),
            ),
            Column("bytes", "Size", By(lambda row: row["bytes"] or 0), number=True, show=format_bytes),
            Column("modified_at", "Modified", By(lambda row: row["modified_at"]), show=lambda at: desk.shown(at, zone)),
            Column("worth", "Restorable", show=str),
        ),
        order="name",
        search=lambda text: lambda row: text.casefold() in row["name"].casefold(),
        choices=(
            Choice("kind", "Show", {"files": lambda row: not row["folder"], "folders": lambda row: row["folder"]}),
        ),
        keeps=("path", "at"),
        empty="Nothing was here then." if at_ms is not None else "Nothing is here yet. Bring files by any FTP client.",
        row_id="name",
        fill=lambda shown: [{**row, "worth": "" if exporting else worth(store, room.vault, row)} for row in shown],
    )
    return of.respond(ask, "vault_files.html", **room.values, folder=folder, at=at_text, crumbs=_crumbs(folder))


def _link(room: Room, row: Row, at: str) -> str:
    page = "files" if row["folder"] else "versions"
    return room.url(page, path=row["path"], at=at)


def _crumbs(folder: str) -> list[tuple[str, str]]:
    """Name and path of each folder above, and of this one."""
    return [
        ("/", paths.ROOT),
        *((each.rpartition("/")[2], each) for each in [*paths.parents(folder), folder] if each != paths.ROOT),
    ]


def worth(store: Store, vault: Any, row: Mapping[str, Any]) -> str:
    """In a word, of a router's backup."""
    if not str(row["name"]).lower().endswith(_JUDGED) or not row["version"] or row["bytes"] > desk.MAX_JUDGED_BYTES:
        return ""
    found = desk.worth(store, vault, str(row["path"]), store.version(int(row["version"])))
    return word(found) if found else "can’t be read"


def word(verdict: Verdict) -> str:
    if verdict.restorable is None:
        return ""
    return ("no" if not verdict.restorable else "yes") + (
        ", look at it" if verdict.restorable and verdict.alarm else ""
    )


def versions(ask: Ask, store: Store, room: Room) -> Any:
    """Of one path, the newest first; what was different each time is a link away."""
    asked, zone = ask.query(), ask.config.site.timezone
    path = paths.clean(asked.get("path", "/"))
    found = store.versions(room.vault, path)
    if not found:
        raise UserError(f"nothing was ever at {path}, or its time to be kept is over")
    now = store.entry(room.vault, path)
    then = store.entry(room.vault, path, desk.moment(asked.get("at", ""), zone)) if asked.get("at") else None
    shown = found[:200]
    return ask.page(
        "vault_versions.html",
        **room.values,
        path=path,
        folder=paths.split(path)[0],
        at=asked.get("at", ""),
        versions=shown,
        more=len(found) - len(shown),
        verdicts={one.id: desk.worth(store, room.vault, path, one) for one in shown[:20]},
        current=now.version if now else None,
        then=then.version if then else None,
        word=word,
        when=lambda ms: desk.shown(ms / 1000, zone),
        before={one.id: other.id for one, other in itertools.pairwise(shown)},
    )


def compare(ask: Ask, store: Store, room: Room) -> Any:
    asked, zone = ask.query(), ask.config.site.timezone
    old, new = (desk.version_of(store, room.vault, asked.get(name, "")) for name in ("a", "b"))
    error, found = "", diff.Diff((), 0, 0)
    try:
        found = desk.compared(store, room.vault, old, new)
    except UserError as why:
        error = str(why)
    return ask.page(
        "vault_diff.html",
        400 if error else 200,
        **room.values,
        old=old,
        new=new,
        found=found,
        error=error,
        when=lambda ms: desk.shown(ms / 1000, zone),
    )


# Taking files along


class Download:
    """Pieces of a file or an archive; what it holds is given back however it ends."""

    def __init__(
        self, config: Config, slots: threading.BoundedSemaphore, make: Callable[[Store], Iterator[bytes]]
    ) -> None:
        if not slots.acquire(blocking=False):
            raise UserError("other downloads are under way: try again in a moment")
        self._slots = slots
        self._config, self._make = config, make
        self._pieces = self._all()
        self._held = True

    def _all(self) -> Iterator[bytes]:
        with desk.opened(self._config) as store:
            yield from self._make(store)

    def __iter__(self) -> "Download":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._pieces.close()  # type: ignore[attr-defined]
        if self._held:
            self._held = False
            self._slots.release()


def _slots(ask: Ask) -> threading.BoundedSemaphore:
    found: threading.BoundedSemaphore = ask.frame.memory.setdefault(
        "vault downloads", threading.BoundedSemaphore(DOWNLOADS)
    )
    return found


def get(ask: Ask, store: Store, room: Room) -> Any:
    """One version, as it was brought."""
    version = desk.version_of(store, room.vault, ask.query().get("version", ""))
    store.open(version).close()  # what can't be read is said while it can be

    def pieces(again: Store) -> Iterator[bytes]:
        with again.open(version.id) as file:
            while piece := file.read(desk.PIECE_BYTES):
                yield piece

    ask.attach(version.path.rpartition("/")[2], "application/octet-stream", version.bytes)
    return Download(ask.config, _slots(ask), pieces)


def archive(ask: Ask, store: Store, room: Room) -> Any:
    """All below a folder, as it is or was, as one file that is made while it is read."""
    asked = ask.query()
    folder, at_ms = paths.clean(asked.get("path", "/")), desk.moment(asked.get("at", ""), ask.config.site.timezone)
    kind = "tar" if asked.get("kind") == "tar" else "zip"
    vault, base = room.vault, folder.rpartition("/")[2] or room.vault.name
    ask.attach(f"{base}.{kind}", "application/x-tar" if kind == "tar" else "application/zip", None)
    return Download(ask.config, _slots(ask), lambda again: history.archive(again, vault, at_ms, kind, folder))  # type: ignore[arg-type]


def lost(vault: Any, limit: int = 200) -> Sequence[tuple[str, Any]]:
    """Paths where something was and nothing is, with the last version that was seen there."""
    present = Span.select(Span.version).where(
        (Span.vault == vault) & Span.until_ms.is_null() & Span.version.is_null(False)
    )
    gone = Version.select().where((Version.vault == vault) & Version.confirmed & Version.id.not_in(present))
    found: dict[str, Any] = {}
    alive = {
        paths.join(span.folder, span.name)
        for span in Span.select(Span.folder, Span.name).where((Span.vault == vault) & Span.until_ms.is_null())
    }
    for version in gone.order_by(Version.id.desc()).limit(20 * limit):
        if version.path not in alive and version.path not in found:
            found[version.path] = version
            if len(found) >= limit:
                break
    return list(found.items())


def deleted(ask: Ask, store: Store, room: Room) -> Any:
    zone = ask.config.site.timezone
    when = partial(_when, zone=zone)
    return ask.page("vault_deleted.html", **room.values, lost=lost(room.vault), when=when)


def _when(ms: int, zone: tzinfo) -> str:
    return desk.shown(ms / 1000, zone)


def events(ask: Ask, store: Store, room: Room) -> Any:
    """The timeline."""

    def link(key: str) -> Callable[[Row], str]:
        return lambda row: room.url("versions", path=row[key]) if row[key] else ""

    of = List(
        title=f"What happened in {room.vault.name}",
        query=Event.select(
            Event.n, Event.at_ms, Event.event, Event.path, Event.target, Event.bytes, Event.login, Event.address
        ).where(Event.vault == room.vault),
        columns=(
            Column("at_ms", "When", Event.n, show=partial(_when, zone=ask.config.site.timezone)),
            Column("event", "What", Event.event, show=lambda word: EVENTS.get(word, word)),
            Column("path", "Path", Event.path, link=link("path")),
            Column("target", "To", link=link("target")),
            Column("bytes", "Size", Event.bytes, number=True, show=format_bytes),
            Column("login", "Who", Event.login),
            Column("address", "From", Event.address),
            Column("n", "Number", number=True),
        ),
        order="-at_ms",
        search=lambda text: Event.path.contains(text) | Event.login.contains(text) | (Event.address == text),
        choices=(Choice("event", "What", {key: Event.event == key for key in EVENTS}, EVENTS),),
        empty="Nothing yet: each upload, overwrite, deletion and restore will stand here.",
        row_id="n",
    )
    return of.respond(ask, "vault_events.html", **room.values)


def restore(ask: Ask, store: Store, room: Room, who: str) -> tuple[str, Any]:
    """An old version becomes the present one; what is there now stays as a version. Returns path and version."""
    if not room.may:
        raise UserError("who logs in so may only read")
    form = ask.form()
    version = desk.version_of(store, room.vault, form.get("version", ""))
    path = paths.clean(form.get("path") or str(version.path))
    asking.ask("undelete", who, version=version.id, path=path)
    return path, version
