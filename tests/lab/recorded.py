"""What RouterOS sends, from tests/data/routeros, filled in for radclient."""

import time
from pathlib import Path

from tests.lab import mschap

FOLDER = Path(__file__).parents[1] / "data" / "routeros"
KINDS = sorted(path.stem for path in FOLDER.glob("*.txt"))
PACKETS = ("login", "start", "interim", "stop")
MAC = "AA:BB:CC:00:01:22"
PORT = 2_148_532_244  # 0x80100014, as the session's id has it


def packets(kind: str, user: str = "", password: str = "", **values: object) -> dict[str, str]:
    """The packets of a file by name; `values` are its further placeholders, see the folder's README."""
    mac = str(values.get("mac", MAC))
    filled = {
        "user": user,
        "password": password,
        "mac": mac,
        "client_id": "1:" + ":".join(f"{int(part, 16):x}" for part in mac.split(":")),
        "address": "10.5.50.253",
        "nas_ip": "192.0.2.7",
        "nas_id": "MikroTik",
        "session": f"{PORT:x}",
        "port": PORT,
        "class": "0x00",
        "at": int(time.time()),
        "mschap": mschap.request(user, password)[0],
        **values,
    }
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (FOLDER / f"{kind}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and line[2:] in PACKETS:
            lines = found.setdefault(line[2:], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return {name: "\n".join(lines).format(**filled) for name, lines in found.items()}
