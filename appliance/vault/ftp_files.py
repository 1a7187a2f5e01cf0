"""What a session sees as files: the vault's catalogue. No path of the machine is ever made of a client's words."""

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO

from pyftpdlib.filesystems import AbstractedFS, FilesystemError

from appliance.vault.models import End, Entry, How, Refused, Who
from appliance.vault.store import Store

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HALF_A_YEAR_S = 180 * 86_400
_AT_ONCE = 500  # lines
_TIMES = 1000  # files of one backup are of the same few seconds


class Spool:
    """An upload, as a file that pyftpdlib writes to; `close` without `commit` leaves nothing behind."""

    def __init__(self, upload: Any, name: str, is_announced: bool = False) -> None:
        self._upload, self.is_announced = upload, is_announced
        self.name = name
        self.closed = False
        self.write, self.room, self.came = upload.write, upload.room, upload.came

    def tell(self) -> int:
        return int(self._upload.bytes)

    def commit(self, end: End) -> str:
        """The reply; raises Refused."""
        self.closed = True
        try:
            version = self._upload.commit(end)
        except Refused:
            raise
        except BaseException:
            self._upload.abandon("it failed")
            raise
        return f"226 Transfer complete; sha256={version.sha256} version={version.id}"

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._upload.abandon("there was no transfer")


class Files(AbstractedFS):
    """Paths are those that the client sees; `ftp2fs` only makes them absolute."""

    def __init__(self, store: Store, vault: Any, who: Who, cmd_channel: Any) -> None:
        super().__init__("/", cmd_channel)
        self.store, self.vault, self.who = store, vault, who

    def ftp2fs(self, ftppath: str) -> str:
        return str(self.ftpnorm(ftppath))

    def fs2ftp(self, fspath: str) -> str:
        return fspath

    def validpath(self, path: str) -> bool:
        return True

    def realpath(self, path: str) -> str:
        return path

    # Reading

    def entry(self, path: str) -> Entry:
        found = self.store.entry(self.vault, path)
        if found is None:
            raise FilesystemError("There is no such file or folder")
        return found

    def file(self, path: str) -> Entry:
        found = self.entry(path)
        if found.is_folder:
            raise FilesystemError("That is a folder")
        return found

    def open(self, filename: str, mode: str) -> BinaryIO:
        """For reading only: what is written goes through `upload`."""
        if mode != "rb":
            raise FilesystemError("That can't be opened so")
        return self.store.open(self.file(filename).version)

    def upload(self, path: str, how: How, offset: int, expected: int | None) -> Spool:
        return Spool(self.store.begin(self.vault, path, how, offset, expected, self.who), path, expected is not None)

    def isfile(self, path: str) -> bool:
        found = self.store.entry(self.vault, path)
        return found is not None and not found.is_folder

    def isdir(self, path: str) -> bool:
        found = self.store.entry(self.vault, path)
        return found is not None and found.is_folder

    def lexists(self, path: str) -> bool:
        return self.store.entry(self.vault, path) is not None

    def getsize(self, path: str) -> int:
        return self.file(path).bytes

    def getmtime(self, path: str) -> int:
        return self.entry(path).modified_at

    def listed(self, path: str) -> Iterator[Entry]:
        """A folder's entries, a file itself, or those whose names fit a pattern."""
        found = self.store.entry(self.vault, path)
        if found is not None and not found.is_folder:
            return iter([found])
        folder, _, name = path.rpartition("/")
        if found is None and any(character in name for character in "*?["):
            entries = self.store.entries(self.vault, folder or "/")
            return (entry for entry in entries if fnmatch.fnmatchcase(entry.name, name))
        if found is None:
            raise FilesystemError("There is no such file or folder")
        return self.store.entries(self.vault, path)

    # Changes

    def chdir(self, path: str) -> None:
        """Who can only bring files learns nothing of which folders there are."""
        if self.cmd_channel.sees and not self.isdir(path):
            raise FilesystemError("There is no such folder")
        self.cwd = path

    def mkdir(self, path: str) -> None:
        self.store.make_folder(self.vault, path, self.who)

    def rmdir(self, path: str) -> None:
        self.store.remove_folder(self.vault, path, self.who)

    def remove(self, path: str) -> None:
        self.store.remove(self.vault, path, self.who)

    def rename(self, src: str, dst: str) -> None:
        self.store.rename(self.vault, src, dst, self.who)

    def utime(self, path: str, timeval: float) -> None:
        self.store.set_time(self.vault, path, int(timeval), self.who)


class Lines:
    """A listing that is made as it is sent."""

    def __init__(self, entries: Iterable[Entry], form: Callable[[Entry], str]) -> None:
        self._entries, self._form = iter(entries), form

    def more(self) -> bytes:
        lines = []
        for entry in self._entries:
            lines.append(self._form(entry))
            if len(lines) == _AT_ONCE:
                break
        return "".join(lines).encode()


def name_line(entry: Entry) -> str:
    return f"{entry.name}\r\n"


def list_line(now_s: float) -> Callable[[Entry], str]:
    """As `ls -l`, which is what programs expect (RFC 959 leaves it open)."""

    @lru_cache(_TIMES)
    def when(modified_at: int) -> str:
        at = time.gmtime(modified_at)
        recent = -86_400 < now_s - modified_at < _HALF_A_YEAR_S
        told = f"{at.tm_hour:02}:{at.tm_min:02}" if recent else f" {at.tm_year}"
        return f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:02} {told}"

    def line(entry: Entry) -> str:
        name, is_folder, size, modified_at, _, _ = entry
        kind = "drwxr-x---" if is_folder else "-rw-r-----"
        return f"{kind}   1 vault    vault    {size:8} {when(modified_at)} {name}\r\n"

    return line


def facts_line(facts: Iterable[str], may_write: bool) -> Callable[[Entry], str]:
    """RFC 3659, 7.5. `unique` is the version: the same content under two names is one, as with hard links."""
    wanted = set(facts)
    of_folder, of_file = ("cdeflmp", "adfrw") if may_write else ("el", "r")

    def line(entry: Entry) -> str:
        at = time.gmtime(entry.modified_at)
        known = {
            "modify": f"{at.tm_year:04}{at.tm_mon:02}{at.tm_mday:02}{at.tm_hour:02}{at.tm_min:02}{at.tm_sec:02}",
            "perm": of_folder if entry.is_folder else of_file,
            "size": str(entry.bytes),
            "type": "dir" if entry.is_folder else "file",
            "unique": "" if entry.is_folder else f"{entry.version:x}",
        }
        told = "".join(f"{name}={value};" for name, value in known.items() if value and name in wanted)
        return f"{told} {entry.name}\r\n"

    return line
