"""One upload: bytes into the spool, and at the end a version, or nothing."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.vault import clock, faults, objects, quota
from appliance.vault.digest import Digest
from appliance.vault.models import DROP, End, Refused, Reservation, Who
from appliance.vault.turns import Turn

if TYPE_CHECKING:
    from appliance.vault.store import Store

HEAD_BYTES = 4096  # of a file, by which its format is told
FLUSH_BYTES = 8 * 2**20


class Upload:
    """Used by one thread. After `commit` or `abandon`, or once either was tried, nothing more can be done with it."""

    def __init__(self, store: "Store", place: Path, vault: Any, path: str, who: Who, expected: int | None) -> None:
        self.path = path
        self.bytes = 0
        self.sha256 = ""
        self._store, self._place, self._vault, self._who, self._expected = store, place, vault, who, expected
        self._hash, self._head = Digest(), b""
        self._spool, self._fd = objects.new_spool(place)
        self._reserved: Any = None
        self._flushed = 0
        self._done = False

    def reserve(self, size: int, files: int, at_ms: int) -> None:
        self._reserved = quota.reserve(self._vault, self._spool, self.path, size, files, self._who.login, at_ms)

    def write(self, data: bytes) -> None:
        """Raises Refused where there is no room, or the disk fails: then `abandon` is all that is left."""
        size = self.bytes + len(data)
        if size > self._reserved.bytes:
            with self._store.turns.plain():
                quota.extend(self._vault, self._reserved, size)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise faults.refusal(self._place, "the spool", error) from error
        self._hash.update(data)
        if size // FLUSH_BYTES > self.bytes // FLUSH_BYTES:
            self._flush(size)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self.bytes = size

    def _flush(self, size: int) -> None:
        """Has the disk begin with what came, so that the last fsync needn't wait for all of it."""
        with contextlib.suppress(OSError):  # what fails to be written, fsync reports
            os.posix_fadvise(self._fd, self._flushed, size - self._flushed, os.POSIX_FADV_DONTNEED)
        self._flushed = size

    def commit(self, end: End, modified_s: int | None = None) -> Any:
        """The version, on disk and the present one. Raises Refused: nothing is changed then, though what came without
        proof of its end is kept as a version that isn't confirmed."""
        try:
            why = self._why(end)
            if why and not self.bytes:
                raise Refused(426, why)
            self._publish()
            version = self._record(why or end.again(), modified_s)
        finally:
            self._close()
        if not version.confirmed:
            raise Refused(426, f"{version.why}: kept as version {version.id}, which isn't confirmed", version)
        return version

    def abandon(self, why: str = "") -> None:
        self._close()

    def _why(self, end: End) -> str:
        """What speaks against its being whole, empty when nothing does."""
        if not end.clean:
            return end.why or "the connection broke"
        if self._expected is not None and self.bytes != self._expected:
            return f"{self.bytes} bytes came, {self._expected} were announced"
        return self._store.proof(self._head, self.bytes)

    def _publish(self) -> None:
        self.sha256 = self._hash.hexdigest()
        self._store.step("received")
        try:
            os.fchmod(self._fd, objects.MODE)
            os.fsync(self._fd)
            self._store.step("synced")
            objects.publish(self._place, self._spool, self.sha256)
        except OSError as error:
            raise faults.refusal(self._place, "an upload", error) from error
        self._store.step("published")

    def _record(self, why: str, modified_s: int | None) -> Any:
        with self._store.turns.take() as turn:
            if not Reservation.delete().where(Reservation.id == self._reserved.id).execute():
                raise Refused(451, "the upload was given up")
            # Retention may just have erased the same content, which was nobody's then.
            if not objects.is_there(self._place, self.sha256, self.bytes):
                objects.publish(self._place, self._spool, self.sha256)
            self._store.settle(self._vault, self.path, self.bytes, self._who, why)
            version = self._add(turn, why, modified_s)
            self._store.step("recorded")
        self._done, self._reserved = True, None  # only now, as what a turn does may be undone
        self._store.step("committed")
        return version

    def _add(self, turn: Turn, why: str, modified_s: int | None) -> Any:
        fields: dict[str, Any] = {"path": self.path, "sha256": self.sha256, "bytes": self.bytes}
        fields |= {"login": self._who.login, "address": self._who.address}
        if why:
            fields["why"] = why
        if modified_s is not None:
            fields["modified"] = modified_s
        lock_days = self._store.fresh(self._vault).lock_days
        if lock_days:
            fields["locked"] = turn.head.age_ms + lock_days * clock.DAY_MS
        record = turn.add("unconfirmed" if why else "store", self._vault.name, **fields)
        return self._store.version(record["version"])

    def _close(self) -> None:
        self._hash.close()
        if self._fd < 0:
            return
        if self._reserved is not None:
            quota.release(self._reserved)
        # Where it can't be taken back now, the spool file tells the next start of it.
        with contextlib.suppress(OSError, Refused):
            if not self._done and os.fstat(self._fd).st_nlink > 1:
                self._store.take_back(self._place, self.sha256)
            (self._place / objects.SPOOL / self._spool).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


def may_overwrite(who: Who) -> bool:
    return who.kind != DROP
