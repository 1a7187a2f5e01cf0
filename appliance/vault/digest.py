"""SHA-256 of what comes, beside the writing of it."""

import hashlib
import queue
import threading

ALONE_BYTES = 4 * 2**20  # less isn't worth a thread
AHEAD = 16  # pieces that may wait


class Digest:
    """Used by one thread; `close` ends the one that it has of its own. hashlib lets others run while it works."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._pieces: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._thread: threading.Thread | None = None

    def update(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._thread is None and self._bytes > ALONE_BYTES:
            self._start()
        if self._thread is None:
            self._hash.update(data)
        else:
            self._pieces.put(data)

    def hexdigest(self) -> str:
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="sha256", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: then it takes longer
            self._bytes = 0
        else:
            self._thread = thread

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._hash.update(piece)
