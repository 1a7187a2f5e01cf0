"""read -> verify -> render -> install -> restart: from the configuration to what runs, or to one clear line."""

import fcntl
import grp
import os
import pwd
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from appliance import certificates, data_disk, db, launch, modules, moving, supervise, systemd_units, web_server
from appliance import config as configuration
from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.crypto import key_file
from appliance.errors import UserError
from appliance.files import written
from appliance.island import places
from appliance.island.standing_in import open_core_or_copy
from appliance.service import Directory, File, Module, Service
from appliance.sites import registry

COMMON = (
    Directory("state", "core", "root", "gatehouse-core", 0o2770),
    Directory("state", "keys", "root", "gatehouse-core", 0o750),
)
ISLAND = Directory("state", places.FOLDER, "root", "gatehouse-core", 0o2770)


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Two that change what runs come one after the other; `run` is `paths.run`."""
    must_be_root()
    run.mkdir(parents=True, exist_ok=True, mode=0o755)
    with (run / "apply.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def services(config: Config, active: Iterable[Module]) -> list[Service]:
    return [service for module in active for service in module.services if service.wanted(config)]


def states(config: Config, active: Iterable[Module]) -> dict[str, str]:
    """By service, in the words of whoever runs them, lower case."""
    if systemd_units.is_running():
        return systemd_units.status(services(config, active))
    return {name: state.lower() for name, state in supervise.status(config).items()}


def check(config: Config) -> None:
    """Verifies what apply would install, without installing it; raises UserError."""
    active = modules.running(config)
    prepare(config, active)
    _verify(config, active)


def apply(config: Config, restart: bool = True, before: Sequence[Module] | None = None) -> list[str]:
    """Returns the names of the services whose files changed; with `restart` they run anew already, else soon.

    `before` are the modules that were enabled until now, where those are others.
    """
    active = modules.running(config)
    prepare(config, active)
    _verify(config, active)
    _end(config, services(config, active), active if before is None else before, running=restart)
    changed = install(config, [*_rendered(config, active), supervise.render(config, services(config, active))])
    _keep(config)
    if systemd_units.is_running():
        units = systemd_units.render(config, services(config, active))
        units |= systemd_units.wishes(config) | systemd_units.renewal(config)
        units |= systemd_units.own_backup(config)
        if restart:
            systemd_units.install_boot(config)
            systemd_units.update(units, changed)
        else:
            systemd_units.start_at_boot(units)
    elif restart and supervise.is_running(config):
        supervise.update(config, changed)
    return changed


def switch(config: Config, wanted: Mapping[Module, bool]) -> list[str]:
    """Modules on or off, then `apply`; where that fails, they are as before."""
    before = modules.enabled(config)
    for module, on in wanted.items():
        modules.set_enabled(config, module, on)
    try:
        return apply(config, before=before)
    except BaseException:
        for module in wanted:
            modules.set_enabled(config, module, module in before)
        raise


def _end(config: Config, left: Sequence[Service], before: Sequence[Module], running: bool) -> None:
    """Of those that ran by the last configuration and aren't wanted any more, users and kernel know nothing then."""
    last = last_applied(config.paths.state)
    if last is None:
        return
    names = {service.name for service in left}
    gone = [service for service in services(last, before) if service.name not in names]
    for service in gone:
        if service.close:
            service.close(last)
    clearing = [service for service in gone if service.clear]
    if running and clearing and systemd_units.is_running():
        systemd_units.stop([f"{service.unit}.service" for service in clearing])
    elif running and clearing:
        supervise.stop(config, [service.name for service in clearing])
    for service in clearing:
        if service.clear:
            service.clear(last)


def prepare(config: Config, active: Sequence[Module]) -> None:
    """Users, directories, keys, certificates and the database: made where they are missing, never changed otherwise."""
    must_be_root()
    make_users()
    for base in (config.paths.state, config.paths.run, config.paths.log):
        base.mkdir(parents=True, exist_ok=True, mode=0o755)
    own = (ISLAND,) if places.is_wanted(config) else ()
    _make_directories(config, [*COMMON, *own, *(d for d in _directories(active) if d.base != "data")])
    make_on_disk(config, active)
    _make_key(key_file(config.paths.state))
    certificates.ensure(config)
    moving.refuse_beginning_anew(config)
    sqlite, steps = db.sqlite_path(config.database_url), db.migrations("appliance.migrations")
    if sqlite is not None:
        db.keep_copy(sqlite, steps)
    with open_core_or_copy(config, create=True) as is_central:
        if is_central:
            db.migrate(core_db.obj, steps)
            registry.enter(config)
    if sqlite is not None:
        os.chown(sqlite, 0, grp.getgrnam("gatehouse-core").gr_gid)
        sqlite.chmod(0o660)  # -wal and -shm take the database's mode


def _directories(active: Iterable[Module]) -> list[Directory]:
    return [directory for module in active for directory in module.directories]


def make_on_disk(config: Config, active: Iterable[Module]) -> None:
    """The folders on the data disk, which only root can make there; none while it is away."""
    make_users()
    try:
        data_disk.ready(config)
    except UserError:
        return
    _make_directories(config, (d for d in _directories(active) if d.base == "data"))


def make_users() -> None:
    """Also in the root of an image that is being built, so that no copy of its /etc/passwd outlives an update."""
    launch.run("systemd-sysusers", str(Path(__file__).with_name("systemd") / "sysusers.conf"))


def must_be_root() -> None:
    if os.geteuid() != 0:
        raise UserError("only root can do this: try again with sudo")


def _make_directories(config: Config, directories: Iterable[Directory]) -> None:
    for directory in directories:
        path = getattr(config.paths, directory.base) / directory.path
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, pwd.getpwnam(directory.owner).pw_uid, grp.getgrnam(directory.group).gr_gid)
        path.chmod(directory.mode)


def _make_key(path: Path) -> None:
    if path.exists():
        return
    with written(path, 0o640, "root", "gatehouse-core") as file:
        file.write(secrets.token_bytes(32))


def _verify(config: Config, active: Sequence[Module]) -> None:
    """Renders into a folder of its own, as if that were `paths.run`, and lets each program read it."""
    config.paths.run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="verify-", dir=config.paths.run) as folder:
        Path(folder).chmod(0o755)
        staged = replace(config, paths=replace(config.paths, run=Path(folder)))
        _make_directories(staged, (d for d in _directories(active) if d.base == "run"))
        install(staged, _rendered(staged, active))
        for module in active:
            module.verify(staged)


def _rendered(config: Config, active: Sequence[Module]) -> list[File]:
    with open_core_or_copy(config):
        files = [file for module in active for file in module.render(config)]
    sites = (site for module in active for site in module.sites(config))
    web = File("nginx.conf", web_server.render(config, sites), "gatehouse-web", ("web",))
    names = "".join(f"{module.name}\n" for module in active)
    enabled = File("settings/modules", names, "root", ("admin",), mode=0o600)  # it joins their pages as it starts
    return [*settings(config, services(config, active)), enabled, web, *files]


def settings(config: Config, running: Iterable[Service]) -> list[File]:
    """The configuration as services read it, and for each a note of its sections: it differs when they do."""
    files = [File(launch.settled(config).name, config.text, "root", (), mode=0o644)]
    for service in running:
        text = "".join(f"{getattr(config, section)!r}\n" for section in service.reads)
        files.append(File(f"settings/{service.name}", text, "root", (service.name,), mode=0o600))
    return files


def last_applied(state: Path) -> Config | None:
    """For a boot after which the configuration can't be used any more: None where nothing was ever applied.

    A later version's may have keys that this one doesn't know, after a rollback: then this version's own last one.
    """
    for path in _kept(state):
        try:
            return configuration.load(path)
        except UserError:
            pass
    return None


def _kept(state: Path) -> tuple[Path, Path]:
    return state / "gatehouse.toml", state / f"gatehouse-{metadata.version('gatehouse')}.toml"


def _keep(config: Config) -> None:
    for path in _kept(config.paths.state):
        if _same(path, config.text):  # nothing is needed of a disk that is full
            continue
        with written(path, 0o644, "root", "root") as file:
            file.write(config.text.encode())


def install(config: Config, files: Sequence[File]) -> list[str]:
    """Writes what differs, each file as a whole; returns the services that have to notice."""
    changed: dict[str, None] = {}
    for file in files:
        path = config.paths.run / file.path
        if _same(path, file.text):
            continue
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with written(path, file.mode, file.owner, file.group) as out:
            out.write(file.text.encode())
        changed |= dict.fromkeys(file.restarts)
    return list(changed)


def _same(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return False
