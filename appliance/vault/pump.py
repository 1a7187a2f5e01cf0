"""A large upload on its way to the disk: while more of it comes, what came is hashed, written, and synced.

Each has a thread, and lets the others run while it works. Whole blocks go past the kernel's cache (O_DIRECT, open(2)):
that is a copy less, leaves the cache to what is read, and leaves little for the last fsync to do.
"""

import mmap
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

BLOCK_BYTES = 2**20
BLOCKS = 8
SYNC_BYTES = 32 * 2**20
_PUMPS = threading.BoundedSemaphore(16)  # more uploads at once have no use for more threads


class Full(NamedTuple):
    """A block of which `size` bytes are to be written at `at`."""

    block: memoryview
    size: int
    at: int

    @property
    def bytes(self) -> memoryview:
        return self.block[: self.size]


class Pump:
    """Used by one thread; `close` ends those that it has of its own."""

    def __init__(self, fd: int, at: int, digest: Any) -> None:
        self._fd, self._digest = fd, digest
        self._direct = _direct(fd)
        self._at = self._synced = at
        self._error: OSError | None = None
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._unhashed: SimpleQueue[Full | None] = SimpleQueue()
        self._unwritten: SimpleQueue[Full | None] = SimpleQueue()
        self._unsynced: SimpleQueue[bool] = SimpleQueue()
        memory = memoryview(mmap.mmap(-1, BLOCKS * BLOCK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        for number in range(BLOCKS):
            self._free.put(memory[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
        self._threads: list[threading.Thread] = []
        self._next()

    @classmethod
    def start(cls, fd: int, at: int, digest: Any) -> "Pump | None":
        """For what comes behind `at`. None where there are enough of them, or no more threads."""
        if not _PUMPS.acquire(blocking=False):
            return None
        pump = cls(fd, at, digest)
        try:
            for work in (pump._hash, pump._write, pump._sync):
                thread = threading.Thread(target=work, name=work.__name__, daemon=True)
                thread.start()
                pump._threads.append(thread)
        except RuntimeError:
            pump.close()
            return None
        return pump

    def room(self) -> memoryview:
        """Where the next bytes are to be put."""
        return self._block[self._count : self._size]

    def came(self, count: int) -> None:
        """So many were put there. Raises OSError where the disk failed, maybe some blocks ago."""
        self._count += count
        if self._count == self._size:
            self._pass_on()
            self._next()
            if self._error:
                raise self._error

    def take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = self.room()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self.came(count)
            view = view[count:]

    def finish(self) -> None:
        """All is hashed and written when it returns, and needs a last fsync. Raises OSError."""
        self._pass_on()
        self.close()
        if self._error:
            raise self._error

    def close(self) -> None:
        if self._direct is None:
            return
        self._unhashed.put(None)
        for thread in self._threads[:2]:
            thread.join()
        self._unsynced.put(False)
        for thread in self._threads[2:]:
            thread.join()
        if self._direct >= 0:
            os.close(self._direct)
        self._direct = None
        _PUMPS.release()

    def _next(self) -> None:
        """The first block is shorter, so that all others begin where one of the disk's does."""
        self._block, self._count = self._free.get(), 0
        self._size = BLOCK_BYTES - self._at % BLOCK_BYTES

    def _pass_on(self) -> None:
        if self._count:
            self._unhashed.put(Full(self._block, self._count, self._at))
            self._at += self._count
            self._count = 0

    def _hash(self) -> None:
        while (full := self._unhashed.get()) is not None:
            self._digest.update(full.bytes)
            self._unwritten.put(full)
        self._unwritten.put(None)

    def _write(self) -> None:
        while (full := self._unwritten.get()) is not None:
            self._try(self._put, full)
            self._free.put(full.block)
            if full.at - self._synced >= SYNC_BYTES:
                self._synced = full.at
                self._unsynced.put(True)

    def _put(self, full: Full) -> None:
        at, rest = full.at, full.bytes
        whole = at % BLOCK_BYTES == 0 and full.size == BLOCK_BYTES
        if whole and self._direct is not None and self._direct >= 0:
            count = os.pwrite(self._direct, rest, at)
            at, rest = at + count, rest[count:]
        while rest:
            count = os.pwrite(self._fd, rest, at)
            at, rest = at + count, rest[count:]

    def _sync(self) -> None:
        """Also has what lies between us and the disk, such as its own cache, begin early."""
        while self._unsynced.get():
            self._try(os.fdatasync, self._fd)

    def _try(self, call: Callable[..., Any], what: Any) -> None:
        """After an error nothing more is tried: no later success would prove anything."""
        if self._error is None:
            try:
                call(what)
            except OSError as error:
                self._error = error


def _direct(fd: int) -> int | None:
    """The same file, past the cache; -1 where its file system has no such thing."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1
