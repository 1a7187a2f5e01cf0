"""The netbackup module: the FTP server, and who keeps what it has taken."""

from collections.abc import Iterable, Iterator
from functools import partial

import peewee

from appliance import certificates
from appliance.config import Config
from appliance.service import Attention, Directory, File, Group, Module, Service, Setting, Tile, python
from appliance.units import format_bytes
from appliance.vault import catalog, finding, signing, summary
from appliance.vault.access import CERTIFICATE, CERTIFICATE_HASH, USER

VAULT = Service(
    name="vault",
    description="takes files by FTP, and gives them back",
    user=USER,
    capabilities=("net_bind_service",),
    command=lambda config: python("appliance.vault.server"),
    reads=("paths", "vault"),
    writes=lambda config: [config.paths.state / catalog.STATE, config.paths.run / catalog.STATE],
    umask=0o007,
    disk=True,
)
KEEPER = Service(
    name="vault-keeper",
    description="retention, scrub and second copy of what the vault has",
    user=USER,
    after=("vault",),
    command=lambda config: ["/usr/bin/nice", "--adjustment=10", *python("appliance.vault.keeper")],
    reads=("site", "paths", "vault", "mail"),
    writes=lambda config: [config.paths.state / catalog.STATE, config.paths.run / catalog.STATE],
    umask=0o007,
    disk=True,
)


def render(config: Config) -> list[File]:
    """The FTP server reads its certificate anew whenever it changes: no session ends for that. The keeper signs that of
    the admin's pages, for those who pull a copy there."""
    pair, shown = certificates.vault(config), certificates.digest(certificates.admin(config))
    return [
        File(CERTIFICATE, pair.key + pair.certificate, USER, ()),
        File(CERTIFICATE_HASH, f"{shown}\n", USER, ()),
    ]


def problems(config: Config, own: bool = False) -> Iterator[str]:
    """`own`: not what is wrong with the disk, its contents or their second copy."""
    try:
        found = summary.problems(config)
    except (OSError, peewee.PeeweeException) as error:
        yield f"vault: its catalogue can't be read: {error}"
        return
    if not own:
        yield from found


def lines(config: Config) -> Iterable[str]:
    """What `gatehouse status` says of it."""
    try:
        found, alerts = summary.read(config), summary.alerts(config)
    except (OSError, peewee.PeeweeException):
        return
    if found is not None:
        yield f"vault: {found.files} files in {found.vaults} vaults, {format_bytes(found.kept_bytes)} with old versions"
        yield from summary.problems(config)
        yield from alerts


def attention(config: Config, now: int) -> Iterator[Attention]:
    from appliance.vault import alerts  # which look at all the rest

    return alerts.attention(config, now)


def tiles(config: Config, now: int) -> Iterator[Tile]:
    try:
        found = summary.read(config)
    except OSError:
        return  # which is among the problems
    if found is not None:
        yield Tile(format_bytes(found.kept_bytes), "kept in vaults, with old versions", "/vaults")
        yield Tile(f"{found.files:,}", "files in vaults", "/netbackup/activity")


SETTINGS = Group(
    "netbackup",
    "NetBackup",
    (
        Setting("vault.passive_first", "First data port", "Of passive mode; let them through your firewall"),
        Setting("vault.passive_last", "Last data port"),
        Setting("vault.masquerade", "Public address", "That passive mode names, behind a router that translates"),
        Setting("vault.max_sessions", "Sessions at most"),
        Setting("vault.sessions_per_address", "Sessions of one address at most"),
        Setting("vault.idle_s", "Idle sessions end after, seconds"),
        Setting(
            "vault.alert_mail", "Alerts by e-mail to", "Late backups, full vaults, a disk that fails; empty: to nobody"
        ),
        Setting("vault.alert_webhook", "Alerts to a webhook", "An https address that takes JSON, of a chat or a pager"),
        Setting("vault.scrub_mb_s", "Verify contents, MB per second", "At most, so that uploads have the disk"),
    ),
)

NETBACKUP = Module(
    name="netbackup",
    title="NetBackup",
    summary="Keeps files that come by FTP, every version of them, so that nobody can erase them by mistake",
    chapter="netbackup.md",
    services=(VAULT, KEEPER),
    directories=(
        Directory("state", catalog.STATE, USER, USER, 0o2770, written_by_pages=True),
        Directory("run", catalog.STATE, USER, USER, 0o2750),
        Directory("data", catalog.DISK, USER, USER, 0o2750),
    ),
    render=render,
    verify=lambda config: None,
    problems=problems,
    own_problems=partial(problems, own=True),
    lines=lines,
    settings=(SETTINGS,),
    attention=attention,
    tiles=tiles,
    search=(finding.SEARCH,),
    web=(
        "appliance.vault.web",
        "appliance.vault.web_files",
        "appliance.vault.web_state",
        "appliance.vault.web_own",
        "appliance.vault.web_copy",
    ),
    beside_pages=("appliance.vault.telling",),
    api=("appliance.vault.api",),
    metrics=("appliance.vault.metrics",),
    checks=("appliance.vault.checks",),
    keeps=(f"{catalog.STATE}/{signing.KEY}", f"{catalog.STATE}/{catalog.SETTINGS}"),
)
