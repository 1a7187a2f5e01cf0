"""Going back: to a version, or to how a whole vault was; and taking it along as an archive."""

import io
import tarfile
import time
import zipfile
from collections.abc import Iterator
from typing import Any, Literal

from appliance.vault import catalog, paths
from appliance.vault.models import Entry, Refused, Who
from appliance.vault.objects import PIECE_BYTES
from appliance.vault.store import NOBODY, Store, changer
from appliance.vault.turns import Turn


def undelete(store: Store, version: Any, path: str | None = None, who: Who = NOBODY) -> None:
    """A version becomes the present one, at its own path or at another; also one that isn't confirmed."""
    vault = version.vault
    with store.changes(path or version.path, who) as (turn, where):
        store.may_store(vault, where, who)
        store.version(version.id)
        store.settle_file(vault, where)
        turn.add("restore", vault.name, path=where, version=version.id, bytes=version.bytes, **changer(who))


def restore_view(store: Store, vault: Any, at: int, who: Who = NOBODY) -> int:
    """Everything as it was at a time, in ms, in one turn. Returns how many files and folders that changed."""
    with store.changes(paths.ROOT, who) as (turn, _):
        then, now = dict(store.tree(vault, at)), dict(store.tree(vault))
        gone = {path: entry for path, entry in now.items() if path not in then or _kind(then[path]) != _kind(entry)}
        come = {path: entry for path, entry in then.items() if now.get(path) != entry}
        for path in sorted(gone, key=lambda path: (-path.count("/"), path)):
            turn.add("rmdir" if gone[path].is_folder else "delete", vault.name, path=path, **changer(who))
        for path in sorted(come, key=lambda path: (path.count("/"), path)):
            _bring(turn, vault, path, come[path], who)
        store.settle_all(vault)
    return len(gone.keys() | come.keys())


def empty(store: Store, vault: Any) -> None:
    """All is removed, as events: what it had is kept until its time is over."""
    with store.changes(paths.ROOT, NOBODY) as (turn, _):
        now = dict(store.tree(vault))
        for path in sorted(now, key=lambda path: (-path.count("/"), path)):
            turn.add("rmdir" if now[path].is_folder else "delete", vault.name, path=path)


def _kind(entry: Entry) -> bool:
    return entry.is_folder


def _bring(turn: Turn, vault: Any, path: str, entry: Entry, who: Who) -> None:
    by = changer(who)
    if not entry.is_folder:
        more = {"version": entry.version, "bytes": entry.bytes, "modified": entry.modified_at}
        turn.add("restore", vault.name, path=path, **more, **by)
        return
    if catalog.now_at(vault, path) is None:
        turn.add("mkdir", vault.name, path=path, **by)
    turn.add("touch", vault.name, path=path, modified=entry.modified_at, **by)


# Archives


class _Pipe(io.RawIOBase):
    """What an archiver writes, to be taken piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def archive(
    store: Store, vault: Any, at: int | None = None, kind: Literal["zip", "tar"] = "zip", folder: str = paths.ROOT
) -> Iterator[bytes]:
    """All below a folder, as it is or as it was, made while it is read. A file that can't be read breaks it off."""
    where = paths.clean(folder)
    found = [(path, entry) for path, entry in store.tree(vault, at) if paths.is_below(path, where)]
    return (_zip if kind == "zip" else _tar)(store, [(path.lstrip("/"), entry) for path, entry in found])


def _zip(store: Store, entries: list[tuple[str, Entry]]) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as out:
        for path, entry in entries:
            moment = time.gmtime(min(max(entry.modified_at, 315_532_800), 4_354_819_198))[:6]  # 1980 to 2107
            info = zipfile.ZipInfo(path + "/" * entry.is_folder, moment)
            if entry.is_folder:
                out.writestr(info, b"")
                continue
            with out.open(info, "w", force_zip64=entry.bytes >= 2**31) as file:
                for piece in _content(store, entry):
                    file.write(piece)
                    yield pipe.take()
    yield pipe.take()


def _tar(store: Store, entries: list[tuple[str, Entry]]) -> Iterator[bytes]:
    for path, entry in entries:
        info = tarfile.TarInfo(path)
        info.type = tarfile.DIRTYPE if entry.is_folder else tarfile.REGTYPE
        info.mode = 0o755 if entry.is_folder else 0o644
        info.size, info.mtime = entry.bytes, entry.modified_at
        yield info.tobuf(tarfile.PAX_FORMAT)
        if not entry.is_folder:
            yield from _content(store, entry)
            yield bytes(-entry.bytes % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _content(store: Store, entry: Entry) -> Iterator[bytes]:
    size = 0
    with store.open(entry.version) as file:
        while piece := file.read(PIECE_BYTES):
            size += len(piece)
            yield piece
    if size != entry.bytes:
        raise Refused(550, f"version {entry.version} can't be read: it is cut short")
