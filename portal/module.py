"""The hotspot: RADIUS, captive portal, DHCP and gateway, as services and the files they read."""

import hashlib
from pathlib import Path

from appliance import certificates, launch
from appliance.accounts import finding, overview
from appliance.config import Config
from appliance.core import complain
from appliance.crypto import load_box
from appliance.errors import ConfigError, Unavailable
from appliance.island import places
from appliance.nas import clients, raddb, tunnel
from appliance.nas import finding as routers
from appliance.nas.services import RADIUS
from appliance.service import Directory, File, Module, Service, python
from portal import dhcp, dismantle, health, nginx, settings
from portal.look import LOGO_KINDS, RENDERED_LOGO, read_logo
from portal.models import closed_mark
from portal.protocol import Close, GatewayClient

CLOSE_TIMEOUT_S = 120.0  # thousands of sessions
DHCP = "dnsmasq.conf"  # below `paths.run`


GATEWAY = Service(
    name="gateway",
    description="sessions, shaping and address translation",
    user="gatehouse-gateway",
    capabilities=("net_admin",),
    command=lambda config: python("portal.gateway"),
    reads=("site", "paths", "radius", "gateway", "portal"),
    writes=lambda config: [config.paths.state / "gateway", config.paths.run / "gateway"],
    wanted=lambda config: config.gateway.enabled,
    close=lambda config: _close(config),
    clear=lambda config: dismantle.dismantle(config),
)
PORTAL = Service(
    name="portal",
    description="the guest's pages",
    user="gatehouse-portal",
    groups=("gatehouse-gateway",),
    after=("gateway",),
    command=lambda config: python("portal.web"),
    reads=("site", "paths", "radius", "gateway", "portal"),
    writes=lambda config: [config.paths.state / "portal", config.paths.run / "portal"],
)
DNSMASQ = Service(
    name="dnsmasq",
    description="DHCP and DNS for guests",
    user="gatehouse-dnsmasq",
    capabilities=("net_admin", "net_bind_service"),
    after=("gateway",),
    command=lambda config: _dnsmasq(config),
    writes=lambda config: [config.paths.state / "dnsmasq"],
    umask=0o022,
    wanted=lambda config: config.gateway.enabled,
)
JOBS = Service(
    name="jobs",
    description="what is done by itself: changes of running sessions, lost sessions, alerts, messages",
    user="gatehouse-jobs",
    groups=("gatehouse-core",),
    after=("gateway", *(service.name for service in RADIUS)),
    command=lambda config: python("appliance.jobs"),
    reads=("site", "paths", "database", "island", "radius", "gateway", "mail", "privacy"),
    writes=lambda config: [config.paths.state / "core", *places.written(config)],
)


def _dnsmasq(config: Config, *more: str) -> list[str]:
    return ["/usr/sbin/dnsmasq", f"--conf-file={config.paths.run / DHCP}", *more]


def render(config: Config) -> list[File]:
    box = load_box(config.paths.state)
    return [
        *raddb.render(config, clients.read(config, box)),
        File("gateway.secret", clients.gateway_secret(config, box), "gatehouse-gateway", ("gateway", "portal")),
        *tunnel.render(config),
        File(RENDERED_LOGO, read_logo(config), "gatehouse-portal", ("portal",)),
        File("settings/portal-certificate", _digest(config.portal.certificate), "root", ("web",), mode=0o600),
        *([File(DHCP, dhcp.render(config), "gatehouse-dnsmasq", ("dnsmasq",))] if config.gateway.enabled else ()),
    ]


def _digest(path: Path | None) -> str:
    """A renewed certificate is seen only by a web server that starts anew."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else ""


def verify(config: Config) -> None:
    """Each program reads its own file; the first complaint is shown with the program's words."""
    _verify_certificate(config)
    for service in RADIUS:
        if service.wanted(config):
            complain("FreeRADIUS", launch.check(config, service, [*service.command(config), "-C"]))
    if config.gateway.enabled:
        complain("dnsmasq", launch.check(config, DNSMASQ, _dnsmasq(config, "--test")))


def _verify_certificate(config: Config) -> None:
    for key in ("certificate", "key"):
        path: Path | None = getattr(config.portal, key)
        if path is not None and not path.is_file():
            raise ConfigError(f"{config.file}: [portal] {key}: there is no file {path}")


def _close(config: Config) -> None:
    """Ends every session. Where no gateway runs, its next run sends the Stops."""
    socket = config.paths.run / "gateway" / "gateway.sock"
    try:
        GatewayClient(socket, CLOSE_TIMEOUT_S).ask(Close())
    except Unavailable:
        closed_mark(config.paths.state).touch()


HOTSPOT = Module(
    name="hotspot",
    title="Hotspot",
    summary="RADIUS for routers, and this machine as a gateway with a login page, DHCP and vouchers",
    settings=settings.GROUPS,
    steps=overview.STEPS,
    after_setup=(("/setup/done", "Try the login page"), ("/routers", "Routers that log guests in here")),
    chapter="hotspot.md",
    services=(*RADIUS, GATEWAY, DNSMASQ, PORTAL, JOBS, tunnel.TUNNEL),
    directories=(
        Directory("state", "gateway", "gatehouse-gateway", "gatehouse-gateway", 0o700),
        Directory("state", "portal", "gatehouse-portal", "gatehouse-portal", 0o700),
        Directory("state", "dnsmasq", "gatehouse-dnsmasq", "gatehouse-dnsmasq", 0o755),
        Directory("run", "gateway", "gatehouse-gateway", "gatehouse-gateway", 0o2750),
        Directory("run", "portal", "gatehouse-portal", "gatehouse-portal", 0o2750),
    ),
    render=render,
    verify=verify,
    problems=health.problems,
    sites=nginx.sites,
    attention=overview.attention,
    tiles=overview.tiles,
    search=(finding.SEARCH, routers.SEARCH),
    web=(
        "appliance.accounts.web_sessions",
        "appliance.accounts.web_import",
        "appliance.accounts.web_accounts",
        "appliance.accounts.web_vouchers",
        "appliance.accounts.web_plans",
        "appliance.accounts.web_registration",
        "appliance.accounts.web_refusals",
        "appliance.accounts.web_devices",
        "portal.web_leases",
        "appliance.accounts.web_pools",
        "appliance.accounts.web_setup",
        "appliance.nas.web",
    ),
    beside_pages=("appliance.accounts.guest_writes",),
    api=(
        "appliance.accounts.api",
        "appliance.accounts.api_vouchers",
        "appliance.accounts.api_registrations",
        "appliance.nas.api",
    ),
    metrics=("appliance.accounts.metrics", "appliance.nas.metrics"),
    checks=("portal.checks", "appliance.nas.checks"),
    # Who is online is not of it: after a restore guests log in anew, rather than be let in as of another day.
    keeps=(
        certificates.GIVEN_PORTAL,
        "portal/form.key",
        *(f"portal/logo.{kind}" for kind in LOGO_KINDS),
        "dnsmasq/leases",
    ),
)
