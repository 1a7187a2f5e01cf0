"""The vault's FTP server as a process that can be killed, on a disk that can be taken away.

`python -m tests.system.vault_victim FOLDER PASSIVE_FIRST [STEP]` prints its two ports; with a STEP it kills itself
there, at the first upload after the file FOLDER/armed has appeared. GRACE_S in its environment is how long it looks at
the control connection after an end that proves nothing.
"""

import os
import signal
import sys
from pathlib import Path

from appliance.config import Config
from appliance.errors import Unavailable
from appliance.vault import ftp_data
from appliance.vault.ftp_tls import Contexts
from appliance.vault.server import Office, Server, Terms, listening
from appliance.vault.store import Store
from tests.unit.vault_box import Box, SetClock
from tests.unit.vault_server import new_certificate

MARKER = "marker"


def disk(config: Config) -> Path:
    if not (config.paths.data / MARKER).exists():
        raise Unavailable("data disk: absent: attach it")
    return config.paths.data


class Dying(Store):
    at = ""
    armed = Path()

    def step(self, name: str) -> None:
        if name == self.at and self.armed.exists():
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, first: int, at: str = "") -> None:
    ftp_data._GRACE_S = float(os.environ.get("GRACE_S", ftp_data._GRACE_S))
    box = Box(folder)
    store = Dying(box.config, disk, SetClock())
    store.at, store.armed = at, folder / "armed"
    store.recover()
    terms = Terms(range(first, first + 20), "", 100, 100, 30, 10, 1)
    office = Office(box.config, terms, store, Contexts(*new_certificate(folder)))
    sockets = [(listening("127.0.0.1", 0), False), (listening("127.0.0.1", 0), True)]
    server = Server(office, sockets)
    print(*(made.getsockname()[1] for made, _ in sockets), flush=True)
    server.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
