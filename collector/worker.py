"""A process that answers questions about flows for the admin's pages, so that these load neither numpy nor DuckDB.

It is started by the first question, kept for the next ones, and ends after a minute without any. Whoever stops reading
an answer, or waits in vain for its next piece, ends it. Requests are lines of JSON; so are the pieces of an answer, a
line `{"bytes": n}` being followed by so many bytes, and `{"end": true}` being the last.
"""

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from appliance import config as configuration
from appliance import launch
from appliance.config import Config
from appliance.errors import Unavailable, UserError

AT_ONCE = 2
IDLE_S = 60
TIMEOUT_S = 60.0  # for the next piece of an answer
PATIENCE_S = 10.0  # for one of the others to be done
MEMORY_BYTES = 3 * 2**29  # of addresses, most of them never touched; DuckDB has a bound of its own
_LONGEST_LINE = 2**24

Request = Mapping[str, Any]
Piece = Mapping[str, Any]


class Gone(Exception):
    """The process has ended."""


class Worker:
    """The process, seen from whoever asks it; one question at a time."""

    def __init__(self, config: Config, idle_s: float = IDLE_S) -> None:
        words = [sys.executable, "-m", "collector.worker", str(config.file), str(idle_s)]
        self._folder = tempfile.TemporaryDirectory(prefix="gatehouse-flows-")  # a killed process takes none away
        environment = {**launch.environment(config), "OPENBLAS_NUM_THREADS": "1", "TMPDIR": self._folder.name}
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._held = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it had no time to read
                    pipe.close()
        self._folder.cleanup()

    def send(self, request: Request) -> None:
        assert self._process.stdin is not None  # noqa: S101 (it was asked for)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Gone from None

    def line(self, timeout_s: float) -> Piece:
        """Raises Gone, and TimeoutError."""
        while b"\n" not in self._held:
            self._held += self._more(timeout_s)
        line, _, self._held = self._held.partition(b"\n")
        piece: Piece = json.loads(line)
        return piece

    def block(self, count: int, timeout_s: float) -> bytes:
        while len(self._held) < count:
            self._held += self._more(timeout_s)
        block, self._held = self._held[:count], self._held[count:]
        return block

    def _more(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        file = self._process.stdout.fileno()
        if not select.select([file], [], [], timeout_s)[0]:
            raise TimeoutError
        if block := os.read(file, 2**20):
            return block
        raise Gone


class Pool:
    """At most AT_ONCE processes, kept for the next question where the last one went well."""

    def __init__(self) -> None:
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._idle: list[tuple[Path, Worker]] = []

    def ask(self, config: Config, request: Request, timeout_s: float = TIMEOUT_S) -> Iterator[Piece | bytes]:
        """Pieces as they come; closing the iterator early ends the search. Raises UserError, and Unavailable."""
        if not self._turns.acquire(timeout=PATIENCE_S):
            raise Unavailable(f"{AT_ONCE} searches run already: try again in a moment")
        try:
            yield from self._asked(config, request, timeout_s)
        finally:
            self._turns.release()

    def _asked(self, config: Config, request: Request, timeout_s: float) -> Iterator[Piece | bytes]:
        worker, done = self._ready(config, request), False
        try:
            while not (piece := worker.line(timeout_s)).get("end"):
                if "error" in piece:
                    done = bool(worker.line(timeout_s).get("end"))
                    raise (Unavailable if piece.get("away") else UserError)(str(piece["error"]))
                yield worker.block(piece["bytes"], timeout_s) if "bytes" in piece else piece
            done = True
        except TimeoutError:
            raise Unavailable(f"the search took longer than {timeout_s:.0f} s: ask a shorter period") from None
        except Gone:
            raise Unavailable("the search was ended, perhaps for want of memory: ask a shorter period") from None
        finally:
            if done:
                with self._lock:
                    self._idle.append((config.file, worker))
            else:
                worker.kill()

    def _ready(self, config: Config, request: Request) -> Worker:
        """One that has the request: an idle one may just have ended by itself."""
        while (idle := self._pop(config.file)) is not None:
            try:
                idle.send(request)
            except Gone:
                idle.kill()
            else:
                return idle
        worker = Worker(config)
        worker.send(request)
        return worker

    def _pop(self, file: Path) -> Worker | None:
        with self._lock:
            for one in [one for one in self._idle if not one[1].alive]:
                self._idle.remove(one)
                one[1].kill()
            for one in self._idle:
                if one[0] == file:
                    self._idle.remove(one)
                    return one[1]
        return None

    def close(self) -> None:
        """Ends those that wait for a question."""
        with self._lock:
            for _, worker in self._idle:
                worker.kill()
            self._idle.clear()


_POOL = Pool()


def ask(config: Config, request: Request, timeout_s: float = TIMEOUT_S) -> Iterator[Piece | bytes]:
    """What `questions.answer` says, from a process of its own: mappings, and bytes of CSV. Raises UserError."""
    return _POOL.ask(config, request, timeout_s)


# The process itself


def serve(config: Config, requests: int, answers: IO[bytes], idle_s: float) -> None:
    """`requests` is a file descriptor; it ends when that does, or after so long without any."""
    held = b""
    while True:
        while b"\n" not in held:
            if not select.select([requests], [], [], idle_s)[0]:
                return
            block = os.read(requests, 2**16)
            if not block or len(held) > _LONGEST_LINE:
                return
            held += block
        line, _, held = held.partition(b"\n")
        _answer(config, json.loads(line), answers)


def _answer(config: Config, request: Request, answers: IO[bytes]) -> None:
    from collector import questions  # loads numpy and DuckDB, which whoever only asks doesn't need

    try:
        for piece in questions.answer(config, request):
            if isinstance(piece, bytes):
                _say(answers, {"bytes": len(piece)}, piece)
            else:
                _say(answers, piece)
    except UserError as error:
        _say(answers, {"error": str(error), "away": isinstance(error, Unavailable)})
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is: the next question may be answered)
        print(f"{request!r}: {error!r}", file=sys.stderr)
        _say(answers, {"error": f"the search failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"})
    _say(answers, {"end": True})


def _say(answers: IO[bytes], piece: Piece, after: bytes = b"") -> None:
    answers.write(json.dumps(piece).encode() + b"\n" + after)
    answers.flush()


def _die_with(requests: int) -> None:
    """Nobody asks any more: a search that still runs is of use to nobody."""
    poll = select.poll()
    poll.register(requests, 0)  # POLLHUP and POLLERR come unasked
    while not poll.poll(None):
        time.sleep(0.1)
    os._exit(1)


def main() -> int:
    file, idle_s = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_S
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    threading.Thread(target=_die_with, args=(0,), daemon=True).start()
    try:
        serve(configuration.load(Path(file)), 0, sys.stdout.buffer, idle_s)
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
