"""Large uploads: whatever the sizes of what comes, the file and its hash are those of all of it."""

import errno
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.vault import pump
from appliance.vault.pump import BLOCK_BYTES, Pump


def pumped(path: Path, sizes: list[int], by_room: bool) -> tuple[bytes, str]:
    """What came before the pump started is the first of the sizes."""
    data = random.Random(1).randbytes(sum(sizes))
    digest = hashlib.sha256(data[: sizes[0]])
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, data[: sizes[0]])
    at = sizes[0]
    started = Pump.start(fd, at, digest)
    assert started
    for size in sizes[1:]:
        if not by_room:
            started.take(data[at : at + size])
            at += size
        end = at if not by_room else at + size
        while at < end:
            count = min(len(started.room()), end - at)
            started.room()[:count] = data[at : at + count]
            started.came(count)
            at += count
    started.finish()
    os.close(fd)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    return data, digest.hexdigest()


@pytest.mark.parametrize("by_room", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        [0],
        [5, 1],
        [BLOCK_BYTES, BLOCK_BYTES],
        [BLOCK_BYTES + 7, 12 * BLOCK_BYTES, 3],
        [4096, 5 * BLOCK_BYTES - 4096, 1],
        [1, *[70_001] * 300],
    ],
)
def test_what_is_written_is_what_came(tmp_path: Path, sizes: list[int], by_room: bool) -> None:
    data, _ = pumped(tmp_path / "file", sizes, by_room)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_fails_is_told_at_the_latest_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*arguments: object) -> int:
        raise OSError(errno.EIO, "it failed")

    monkeypatch.setattr(pump, "SYNC_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="it failed"):
        pumped(tmp_path / "file", [0, 20 * BLOCK_BYTES], True)


def test_without_direct_writes_and_with_no_more_pumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., int] = os.open

    def without(path: object, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no such thing")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", without)
    data, _ = pumped(tmp_path / "file", [3, 3 * BLOCK_BYTES], True)
    assert (tmp_path / "file").read_bytes() == data
    fd = real(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    started = [Pump.start(fd, 0, hashlib.sha256()) for _ in range(17)]
    assert started[-1] is None
    for one in started:
        if one:
            one.close()
    os.close(fd)
