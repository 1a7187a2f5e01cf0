"""A slow or broken disk for one server, by a library that is preloaded into it (slow_disk.c)."""

import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("slow_disk.c")


def environment(folder: Path, delay_ms: int = 0, fails: bool = False) -> dict[str, str]:
    """For a process that can read `folder`, where the library is built."""
    library = folder / "slow_disk.so"
    subprocess.run(["cc", "-O", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "DISK_DELAY_MS": str(delay_ms)} | ({"DISK_FAILS": "1"} if fails else {})
