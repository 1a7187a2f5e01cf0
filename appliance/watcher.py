"""Root's part where no systemd runs, beside supervisor: has wishes granted and certificates renewed, and writes down
how services are.

It reads no wish itself. `python -m appliance.watcher CONFIG RUN`.
"""

import json
import os
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path

from supervisor.xmlrpc import SupervisorTransport

from appliance import config as configuration
from appliance.files import written
from appliance.service import ASKED
from appliance.supervise import SOCKET, STATES

LOOKS_EVERY_S = 0.5
NOTES_EVERY = 2  # looks
DAILY_FIRST_AFTER_S, DAILY_EVERY_S = 120, 86_400
DAILY = (("certificate", "renew"), ("vault", "backup", "--if-wanted"))


def main() -> None:
    file, run = Path(sys.argv[1]), Path(sys.argv[2])
    asked = configuration.salvage_paths(file).state / ASKED
    looks, daily_at = 0, time.monotonic() + DAILY_FIRST_AFTER_S
    while True:
        if looks % NOTES_EVERY == 0:
            note(run)
        if any(asked.glob("*.json")):
            grant(file)
            note(run)
        if time.monotonic() >= daily_at:
            daily_at += DAILY_EVERY_S
            for words in DAILY:
                subprocess.Popen(command(file, *words), env=own(), stdin=subprocess.DEVNULL)
        looks += 1
        time.sleep(LOOKS_EVERY_S)


def grant(file: Path) -> None:
    """What can't be granted is told in a line; what even that fails for waits a while."""
    words = command(file, "apply", "--wishes")
    if subprocess.run(words, env=own(), stdin=subprocess.DEVNULL, check=False).returncode != 0:
        time.sleep(10)


def command(file: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "appliance.cli", "--config", str(file), *words]


def own() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "GATEHOUSE_CONFIG"}


def note(run: Path) -> None:
    transport = SupervisorTransport(None, None, f"unix://{run / SOCKET}")
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            found = server.supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return
    states = {str(row["name"]): str(row["statename"]) for row in found}  # type: ignore[index, union-attr, call-overload]
    with written(run / STATES, 0o644, "root", "root") as file:
        file.write(json.dumps(states).encode())


if __name__ == "__main__":
    main()
