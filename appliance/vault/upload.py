"""One upload: bytes into the spool, and at the end a version, or nothing."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.files import fsync_folder
from appliance.vault import catalog, clock, faults, objects, quota
from appliance.vault.models import End, Refused, Who, sql
from appliance.vault.pump import Pump
from appliance.vault.redo import CONTENT_BYTES
from appliance.vault.turns import Turn

if TYPE_CHECKING:
    from appliance.vault.store import Store

HEAD_BYTES = 4096  # of a file, by which its format is told
PUMP_BYTES = 2**20  # less isn't worth threads


class Upload:
    """Used by one thread. After `commit` or `abandon`, or once either was tried, nothing more can be done with it."""

    def __init__(self, store: "Store", place: Path, vault: Any, path: str, who: Who, expected: int | None) -> None:
        self.path = path
        self.bytes = 0
        self.sha256 = ""
        self._store, self._place, self._vault, self._who, self._expected = store, place, vault, who, expected
        self._hash, self._head = hashlib.sha256(), b""
        self._pump: Pump | None = None
        self._spool, self._fd = objects.new_spool(place)
        self._reserved: Any = None
        self._room = 0
        self._is_synced = self._done = False

    def begin(self) -> None:
        """Raises Refused where it can't be stored as things are now."""
        if not quota.is_needed(self._vault, self._expected or 0):
            self._store.may_store(self._vault, self.path, self._who)
            self._room = quota.FIRST_BYTES
            return
        with self._store.turns.plain() as now:
            span = self._store.may_store(self._vault, self.path, self._who)
            self._reserve(self._expected or 0, 0 if span else 1, now.at_ms)

    def _reserve(self, size: int, files: int, at_ms: int) -> None:
        self._reserved = quota.reserve(self._vault, self._spool, self.path, size, files, self._who.login, at_ms)
        self._room = self._reserved.bytes

    def write(self, data: bytes) -> None:
        """Raises Refused where there is no room, or the disk fails: then `abandon` is all that is left."""
        self._claim(self.bytes + len(data))
        try:
            if self._pump:
                self._pump.take(data)
            else:
                self._write(data)
        except OSError as error:
            raise faults.refusal(self._place, "the spool", error) from error
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._grown(len(data))

    def room(self) -> memoryview | None:
        """Where more can be put without a copy, and `came` be told of it; None while `write` is to be used."""
        return self._pump.room() if self._pump else None

    def came(self, count: int) -> None:
        """As `write`, of what was put into `room`."""
        self._claim(self.bytes + count)
        try:
            if self._pump:
                self._pump.came(count)
        except OSError as error:
            raise faults.refusal(self._place, "the spool", error) from error
        self.bytes += count

    def _claim(self, size: int) -> None:
        if size > self._room:
            with self._store.turns.plain() as now:
                if self._reserved is None:
                    self._reserve(size, 0, now.at_ms)
                self._room = quota.extend(self._vault, self._reserved, size)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(data)

    def _grown(self, count: int) -> None:
        before = self.bytes
        self.bytes += count
        if before < PUMP_BYTES <= self.bytes:
            self._pump = Pump.start(self._fd, self.bytes, self._hash)

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
        try:
            if self._pump:
                self._pump.finish()
            self.sha256 = self._hash.hexdigest()
            self._store.step("received")
            os.fchmod(self._fd, objects.MODE)
            is_small = 0 < self.bytes <= CONTENT_BYTES
            self._is_synced = not (is_small and objects.link(self._place, self._spool, self.sha256))
            if self._is_synced:
                os.fsync(self._fd)
                self._store.step("synced")
                objects.publish(self._place, self._spool, self.sha256)
        except OSError as error:
            raise faults.refusal(self._place, "an upload", error) from error
        self._store.step("published")

    def _record(self, why: str, modified_s: int | None) -> Any:
        with self._store.turns.take(follows=True) as turn:
            if self._reserved is not None:
                quota.settle(self._reserved)
            # Retention may just have erased the same content, which was nobody's then.
            if not objects.is_there(self._place, self.sha256, self.bytes):
                objects.publish(self._place, self._spool, self.sha256)
            self._store.settle(self._vault, self.path, self.bytes, self._who, why)
            if not self._is_synced and not turn.keep(os.pread(self._fd, self.bytes, 0)):
                os.fsync(self._fd)
                fsync_folder(objects.file_of(self._place, self.sha256).parent)
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
        (lock_days,) = sql("SELECT lock_days FROM vault WHERE id = ?", self._vault.id).fetchone()
        if lock_days:
            fields["locked"] = turn.head.age_ms + lock_days * clock.DAY_MS
        record = turn.add("unconfirmed" if why else "store", self._vault.name, **fields)
        return catalog.version_of(self._vault, record)

    def _close(self) -> None:
        if self._pump:
            self._pump.close()
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
