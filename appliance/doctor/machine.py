"""Checks of the machine itself: services, clock, disks, database, and whether the configuration is what runs."""

import ctypes
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import peewee

from appliance import apply, data_disk, db, launch, modules, systemd_units
from appliance.accounts.models import Mail, core_db
from appliance.config import Config
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding
from appliance.mail import FAILED, WAITING
from appliance.units import format_bytes

LOW_SHARE, LOW_BYTES = 20, 512 * 2**20  # a warning when less than a twentieth and less than this is free
FULL_BYTES = 64 * 2**20
_MANY = 1000  # aren't counted further
WAL_BYTES = 256 * 2**20
READ_S = 12.0  # of a database; large ones on slow disks aren't read to the end
_STEPS = 100_000  # of SQLite's machine between two looks at the clock
_TIME_ERROR = 5  # adjtimex(2): the clock isn't synchronised
_TIMEX_BYTES = 512  # more than struct timex has anywhere; all 0 only asks
_ACTIVE = ("active", "running")  # systemd's word, and supervisor's


def services(config: Config) -> Iterator[Finding]:
    active = modules.running(config)
    states = apply.states(config, active)
    if not states:
        yield Finding("services", WARN, "Nobody says which of them run.", "Start them.", ("gatehouse up",))
        return
    wanted = apply.services(config, active)
    stopped = {s.name: state for s in wanted if (state := states.get(s.name, "stopped")) not in _ACTIVE}
    for name, state in stopped.items():
        yield Finding(
            f"service {name}", BAD, f"It doesn't run: {state}.", "See what it said, then start it.", again(name)
        )
    if not stopped:
        yield Finding("services", OK, f"All {len(wanted)} run.")


def answers(config: Config) -> Iterator[Finding]:
    """Whether they do their work, asked through the interfaces that others use."""
    for line in (line for module in modules.running(config) for line in module.problems(config)):
        yield Finding("services", BAD, f"{line[:1].upper()}{line[1:]}.", "Start it anew.", ("gatehouse apply",))


def again(*names: str) -> tuple[str, ...]:
    """The lines that start these services anew."""
    if not systemd_units.is_running():
        return ("gatehouse status", "gatehouse apply")
    units = [f"gatehouse-{name}" for name in names]
    return (f"journalctl -n 30 {' '.join(f'-u {unit}' for unit in units)}", f"systemctl restart {' '.join(units)}")


def year(config: Config) -> Iterator[Finding]:
    """A box without a clock starts in 1970, or in the year its image was made."""
    now, made = time.time(), Path(__file__).stat().st_mtime
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < made - 86_400:
        remedy = "Let it reach a time server: certificates, plans and accounting go by the clock."
        yield Finding("clock", BAD, f"It says {shown}, before this program was made.", remedy, _TIME)
    else:
        yield Finding("clock", OK, f"It says {shown}.")


_TIME = ("timedatectl set-ntp true", "timedatectl timesync-status")


def synchronised(config: Config) -> Iterator[Finding]:
    """The kernel's own word, whichever program sets it."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if answer == _TIME_ERROR:
        remedy = "Let a time server set it."
        yield Finding("time server", WARN, "No time server sets the clock.", remedy, _TIME)
    elif answer >= 0:
        yield Finding("time server", OK, "The clock is synchronised.")


def disk(config: Config) -> Iterator[Finding]:
    """The system's; the state and what services print may lie on the same one."""
    seen = set()
    for path in (config.paths.state, config.paths.log):
        if path.exists() and (number := path.stat().st_dev) not in seen:
            seen.add(number)
            yield _space(path)


def _space(path: Path) -> Finding:
    found = os.statvfs(path)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    subject = f"disk {path}"
    if found.f_flag & os.ST_RDONLY:
        commands = ("dmesg --level=err,warn", "reboot")
        return Finding(
            subject, BAD, "It is read-only: the kernel found errors.", "Reboot, or replace the disk.", commands
        )
    if free < FULL_BYTES or (found.f_files and not found.f_favail):
        return Finding(subject, BAD, f"It is full: {format_bytes(free)} of {format_bytes(size)} free.", _LESS, _USED)
    if free < min(LOW_BYTES, size // LOW_SHARE):
        return Finding(subject, WARN, f"Only {format_bytes(free)} of {format_bytes(size)} are free.", _LESS, _USED)
    return Finding(subject, OK, f"{format_bytes(free)} of {format_bytes(size)} are free.")


_LESS = "Keep less: shorten [privacy] keep_sessions_days, remove old copies and logs."
_USED = ("du -xh --max-depth=2 /var | sort -h | tail",)


def data(config: Config) -> Iterator[Finding]:
    """The detached disk, once there has ever been one."""
    seen, last = data_disk.mounted(config.paths.data), data_disk.last_used(config)
    if seen is None and last is None:
        return
    found = data_disk.verdict([], seen, last, config.paths.data) if seen else data_disk.state(config)
    if found.state == data_disk.READY and seen:
        free, size = format_bytes(seen.free_bytes), format_bytes(seen.size_bytes)
        yield Finding("data disk", OK, f"It is ours and mounted; {free} of {size} are free.")
        return
    yield Finding("data disk", BAD, f"It is {found.state}.", found.remedy, ("gatehouse disk list",))


def database(config: Config) -> Iterator[Finding]:
    steps, done = db.migrations("appliance.migrations"), db.version(core_db.obj)
    if done < len(steps):
        sentence = f"It is at version {done}, this program wants {len(steps)}."
        yield Finding("database", BAD, sentence, "Bring it up to date.", ("gatehouse apply",))
    elif done > len(steps):
        sentence = f"It is at version {done}, made by a newer program; this one knows {len(steps)}."
        yield Finding("database", WARN, sentence, "It works; install the newer program when you can.")
    file = db.sqlite_path(config.database_url)
    if file is None:
        yield _server()
    else:
        yield from _whole(file)


def _server() -> Finding:
    """What a standby is worth depends on whether commits wait for it."""
    (names,) = core_db.execute_sql("SHOW synchronous_standby_names").fetchone()
    if names:
        return Finding("database", OK, f"It answers, and its commits wait for {names}.")
    sentence = "It answers, but its commits wait for no standby: the last of them would be lost with it."
    return Finding("database", WARN, sentence, "Name the standby in synchronous_standby_names (chapter Many sites).")


def _whole(file: Path) -> Iterator[Finding]:
    until = time.monotonic() + READ_S
    core_db.connection().set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
    try:
        said = [row[0] for row in core_db.execute_sql("PRAGMA quick_check(3)").fetchall()]
    except peewee.DatabaseError as error:
        said = [] if "interrupted" in str(error) else [str(error)]
    finally:
        core_db.connection().set_progress_handler(None, 0)
    if not said:
        yield Finding("database", OK, f"It answers; it is too large to be read through within {READ_S:g} seconds.")
    elif said == ["ok"]:
        yield Finding("database", OK, "It is whole, and of this program's version.")
    else:
        remedy = f"Restore the last backup; keep {file} for whoever is to look at it."
        commands = ("gatehouse restore FILE --identity KEY --yes",)
        yield Finding("database", BAD, f"It is damaged: {'; '.join(said)}.", remedy, commands)
    wal = file.with_name(f"{file.name}-wal")
    if wal.exists() and (size := wal.stat().st_size) > WAL_BYTES:
        sentence = f"Its log has grown to {format_bytes(size)}: a program keeps an old view of it open."
        yield Finding("database", WARN, sentence, "Start the services anew.", ("gatehouse apply",))


def messages(config: Config) -> Iterator[Finding]:
    """What was to be mailed to people."""
    failed = list(Mail.select().where(Mail.state == FAILED).order_by(Mail.id.desc()).limit(_MANY))
    tried = list(Mail.select().where(Mail.state == WAITING, Mail.tries > 0).order_by(Mail.id.desc()).limit(_MANY))
    commands = ("gatehouse mail list", "gatehouse mail test ADDRESS")
    if failed:
        sentence = f"{_messages(failed)} couldn't be sent: {failed[0].error}."
        yield Finding("mail", BAD, sentence, "See [mail] in the configuration.", commands)
    if tried:
        sentence = f"The mail server hasn't taken {_messages(tried)} yet: {tried[0].error}."
        yield Finding("mail", WARN, sentence, "They are tried again by themselves.", commands)
    if not failed and not tried and config.mail.host:
        yield Finding("mail", OK, "Every message was sent.")


def _messages(rows: list[Mail]) -> str:
    count = f"{_MANY} messages or more" if len(rows) == _MANY else f"{len(rows)} messages"
    return "1 message" if len(rows) == 1 else count


def configuration(config: Config) -> Iterator[Finding]:
    """What stands in the file may not be what runs."""
    try:
        runs = launch.settled(config).read_text(encoding="utf-8")
    except FileNotFoundError:
        yield Finding("configuration", BAD, "Nothing was applied yet.", "Apply it.", ("gatehouse apply",))
        return
    if runs != config.text:
        remedy = "Apply it, or take the change back."
        commands = ("gatehouse check", "gatehouse apply")
        yield Finding("configuration", WARN, f"{config.file} isn't what runs.", remedy, commands)
    else:
        yield Finding("configuration", OK, f"{config.file} is what runs.")


CHECKS = (
    Check("services", services),
    Check("what services answer", answers, root=True, limit_s=30),
    Check("configuration", configuration, root=True),
    Check("database", database, core=True),
    Check("mail", messages, core=True),
    Check("disk", disk),
    Check("data disk", data),
    Check("clock", year),
    Check("time server", synchronised, root=True),
)
