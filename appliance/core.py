"""What runs on every appliance, whichever modules are enabled: the web server and the admin's pages."""

import http
import http.client
import ssl
from collections.abc import Iterator

from appliance import certificates, launch, web_server
from appliance.config import Config
from appliance.errors import UserError
from appliance.island import places
from appliance.island import state as island
from appliance.service import (
    ANSWERED,
    ASKED,
    Directory,
    File,
    Group,
    Module,
    Service,
    Setting,
    Upload,
    python,
)

LOOPBACK = "127.0.0.1"
_ANSWERS_WITHIN_S = 10.0  # slow boxes, right after they have started

ADMIN = Service(
    name="admin",
    description="the admin's pages",
    user="gatehouse-admin",
    groups=("gatehouse-core", "gatehouse-collector", "gatehouse-vault", "gatehouse-dealers"),
    command=lambda config: python("appliance.admin.web"),
    reads=(
        *("site", "paths", "database", "radius", "gateway", "dhcp", "portal", "mail", "acme", "tunnel", "vault"),
        "dealer",
    ),
    writes=lambda config: [
        *(config.paths.state / name for name in ("core", "admin", ASKED, *_written_by_pages(config))),
        *(config.paths.run / name for name in ("admin", "guests")),
        *places.written(config),  # SQLite writes beside a file that it only reads
    ],
)
WEB = Service(
    name="web",
    description="web server before the pages",
    user="gatehouse-web",
    groups=("gatehouse-portal", "gatehouse-admin"),
    command=lambda config: _nginx(config),
    writes=lambda config: [config.paths.run / "web"],
    forks=True,
)

SITE_REPORTS = Service(
    name="site",
    description="how this appliance is, for all that share its database",
    user="gatehouse-site",
    groups=tuple(f"gatehouse-{name}" for name in ("core", "gateway", "jobs", "collector", "vault", "dealers")),
    command=lambda config: python("appliance.sites.reporter"),
    reads=("site", "paths", "database", "radius", "gateway", "portal", "admin", "netflow", "vault", "dealer"),
    wanted=lambda config: config.fleet,
)


def _written_by_pages(config: Config) -> Iterator[str]:
    """Folders of the enabled modules whose pages write there themselves."""
    from appliance import modules  # which names this module too

    for module in modules.enabled(config):
        yield from (directory.path for directory in module.directories if directory.written_by_pages)


def _nginx(config: Config, *more: str) -> list[str]:
    folder = config.paths.run / "web"
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", str(config.paths.run / "nginx.conf"), "-e", "stderr", *more]


def render(config: Config) -> list[File]:
    """nginx.conf itself is rendered by `apply`, with the servers of all modules."""
    if not config.admin.tls:
        return []
    pair = certificates.admin(config)
    return [File("admin.pem", pair.certificate + pair.key, "gatehouse-web", ("web",))]


def sites(config: Config) -> Iterator[str]:
    if config.acme.enabled:
        yield web_server.challenges(config)


def verify(config: Config) -> None:
    complain("nginx", launch.check(config, WEB, _nginx(config, "-t")))


def complain(program: str, output: str) -> None:
    """Raises UserError with the end of what the program said."""
    if output:
        lines = [line for line in output.splitlines() if line.strip()]
        raise UserError(f"{program} refuses its configuration, nothing was changed: {' | '.join(lines[-3:])}")


def problems(config: Config) -> Iterator[str]:
    listen = LOOPBACK if config.admin.listen.is_unspecified else str(config.admin.listen)
    yield from page("the admin page", listen, config.admin.port, tls=config.admin.tls)


def page(title: str, address: str, port: int, tls: bool) -> Iterator[str]:
    """Any answer but nginx's own that nobody stands behind it."""
    connection = http.client.HTTPConnection(address, port, timeout=_ANSWERS_WITHIN_S)
    if tls:
        own = ssl._create_unverified_context()  # noqa: S323 (our own, on this machine)
        connection = http.client.HTTPSConnection(address, port, timeout=_ANSWERS_WITHIN_S, context=own)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield f"{title} doesn't answer on {address} port {port}: {error or type(error).__name__}"
        return
    finally:
        connection.close()
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        yield f"{title} on {address} port {port} says {status}"


SITE = Group(
    "site",
    "Site",
    (
        Setting("site.name", "Name", "What guests and admins read at the top of each page"),
        Setting("site.timezone", "Time zone", "In which days and hours of plans are meant", "zone"),
        Setting("site.contact", "Contact", "Whom a guest may ask: a telephone number, an address"),
    ),
)
MAIL = Group(
    "mail",
    "Messages",
    (
        Setting("mail.host", "Mail server", "That takes our messages; without one none are sent"),
        Setting("mail.port", "Port"),
        Setting("mail.tls", "Encryption", "", "starttls|tls|none"),
        Setting("mail.sender", "From", "The address that messages come from"),
        Setting("mail.user", "Log-in there", "Its password: gatehouse mail password"),
    ),
)

ACME = Group(
    "acme",
    "Certificate by itself",
    (
        Setting("acme.enabled", "Get it by itself", "From Let's Encrypt, whose terms you accept so; see the handbook"),
        Setting("acme.contact", "E-mail", "That the authority may write to"),
        Setting("acme.names", "Other names", "Beside the login page's; each leads here from the Internet"),
    ),
)


def _given_admin(data: bytes) -> str:
    certificates.check_given(data)
    return certificates.GIVEN_ADMIN


CERTIFICATE = Upload(
    "admin.certificate",
    "These pages",
    "Without one the box shows one of its own authority, which browsers warn of",
    (certificates.GIVEN_ADMIN,),
    certificates.MAX_GIVEN_BYTES,
    _given_admin,
)

CORE = Module(
    name="core",
    title="Appliance",
    chapter="hotspot.md",
    summary="These pages, and the web server before all pages",
    services=(ADMIN, WEB, SITE_REPORTS),
    directories=(
        Directory("state", "admin", "gatehouse-admin", "gatehouse-admin", 0o700),
        Directory("state", ASKED, "gatehouse-admin", "gatehouse-admin", 0o700),
        Directory("state", ANSWERED, "root", "gatehouse-admin", 0o750),
        Directory("state", "tls", "root", "gatehouse-web", 0o750),
        Directory("run", "admin", "gatehouse-admin", "gatehouse-admin", 0o2750),
        Directory("run", "guests", "gatehouse-admin", "gatehouse-portal", 0o2750),  # only what the portal may ask
        Directory("run", "acme", "root", "gatehouse-web", 0o750),
        Directory("run", "web", "gatehouse-web", "gatehouse-web", 0o700),
    ),
    settings=(SITE, MAIL, ACME, Group("certificate", "Certificate", (), (CERTIFICATE,))),
    render=render,
    sites=sites,
    verify=verify,
    problems=problems,
    lines=island.lines,
    checks=("appliance.doctor.machine", "appliance.doctor.renewal", "appliance.island.checks"),
)
