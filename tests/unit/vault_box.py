"""A vault on a folder of a test's own, with a clock that the test sets."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.config import Config, Paths
from appliance.vault import redo, vaults
from appliance.vault.clock import Clock
from appliance.vault.models import End, How, Who, vault_db
from appliance.vault.store import Store

WHOLE = End(True)


@dataclass
class SetClock(Clock):
    wall: int = 1_800_000_000_000
    since_boot: int = 1000
    number: str = "boot-1"

    def wall_ms(self) -> int:
        return self.wall

    def boot_ms(self) -> int:
        return self.since_boot

    def boot(self) -> str:
        return self.number

    def wait(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.since_boot += milliseconds


@dataclass
class Box:
    folder: Path
    clock: SetClock = field(default_factory=SetClock)
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        redo.LOG_BYTES = 256 * 1024  # quick to make, and begun anew now and then
        self.config = Config(paths=Paths(state=self.folder / "state", run=self.folder / "run", data=self.folder / "d"))
        (self.folder / "state" / "vault").mkdir(parents=True, exist_ok=True)
        (self.folder / "d" / "vault").mkdir(parents=True, exist_ok=True)
        self.open()

    def open(self) -> None:
        self.store = Store(self.config, lambda config: config.paths.data, self.clock)
        self.store.recover()

    def vault(self, name: str = "office", **settings: Any) -> Any:
        return vaults.create(name, **settings)

    def put(self, vault: Any, path: str, data: bytes, who: Who = Who(), end: End = WHOLE, how: How = How.STORE) -> Any:  # noqa: B008
        upload = self.store.begin(vault, path, how, who=who)
        try:
            upload.write(data)
            return upload.commit(end)
        finally:
            upload.abandon()

    def get(self, version: Any) -> bytes:
        with self.store.open(version) as file:
            return file.read()

    def close(self) -> None:
        vault_db.close()
