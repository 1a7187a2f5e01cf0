"""What an owner may change of the hotspot on the admin's pages; see Setting for what may stand here."""

from appliance import certificates
from appliance.config_portal import REGISTRATION
from appliance.errors import UserError
from appliance.service import Group, Setting, Upload
from portal.look import LOGO_KINDS, MAX_LOGO_BYTES

LANGUAGES = "In several languages: write [en], [cs] and so on in a line of its own before each text"


def _logo(content: bytes) -> str:
    for kind, (_, beginnings) in LOGO_KINDS.items():
        if content.lstrip(b"\xef\xbb\xbf \n").startswith(beginnings):
            return f"portal/logo.{kind}"
    raise UserError(f"Logo: this is no {', '.join(kind.upper() for kind in LOGO_KINDS)} image")


LOGO = Upload(
    "portal.logo",
    "Logo",
    f"SVG, PNG, JPEG or WebP, at most {MAX_LOGO_BYTES} bytes, as it is part of each page",
    tuple(f"portal/logo.{kind}" for kind in LOGO_KINDS),
    MAX_LOGO_BYTES,
    _logo,
)


def _given_portal(data: bytes) -> str:
    certificates.check_given(data)
    return certificates.GIVEN_PORTAL


CERTIFICATE = Upload(
    "portal.certificate",
    "Login page",
    "Publicly valid, for the name of the login page; without one guests come without TLS, as phones would refuse",
    (certificates.GIVEN_PORTAL,),
    certificates.MAX_GIVEN_BYTES,
    _given_portal,
    "gatehouse-web",
    ("portal.certificate", "portal.key"),
)

GROUPS = (
    Group("portal-certificate", "Certificate of the login page", (), (CERTIFICATE,)),
    Group(
        "portal",
        "Login page",
        (
            Setting("portal.title", "Heading", LANGUAGES, "text"),
            Setting("portal.greeting", "Greeting", "What stands below it; likewise", "text"),
            Setting("portal.accent", "Colour", "Of buttons, such as #c2185b"),
            Setting("portal.languages", "Languages", "That guests can read; the first where they ask for none of them"),
            Setting("portal.terms", "Terms of use", "What guests must accept; likewise in several languages", "text"),
            Setting("portal.terms_url", "Terms as a page", "An address of your own instead"),
            Setting("portal.hostname", "Name of the login page", "What guests see in their browser"),
        ),
        (LOGO,),
    ),
    Group(
        "access",
        "Before the login",
        (
            Setting("portal.walled_garden", "Walled garden", "Hosts, addresses, networks reached without a login"),
            Setting("portal.free_plan", "Plan of free access", "Empty: there is no such button"),
            Setting("portal.registration", "Guests register themselves", "", "|".join(REGISTRATION)),
            Setting("portal.registration_plan", "Plan of who registers"),
            Setting("portal.registration_grace_s", "Time to read the mail, seconds", "Online before it is confirmed"),
        ),
    ),
    Group(
        "network",
        "Network",
        (
            Setting("gateway.enabled", "This box is a gateway", "No: guests come by routers only, see the handbook"),
            Setting("gateway.wan", "To the provider", "The network device that leads to the Internet", "device"),
            Setting("gateway.lan", "To the guests", "The network device with the access points", "device"),
            Setting("gateway.address", "Guests' network", "The gateway's own address in it, with its prefix"),
            Setting("gateway.addresses", "Public addresses", "Networks routed here, given to guests one-to-one"),
            Setting("dhcp.first", "First address for guests", "Empty: the one after the gateway's"),
            Setting("dhcp.last", "Last address for guests", "Empty: the last of the network"),
            Setting("dhcp.lease_s", "Lease, seconds", "How long an address is lent"),
            Setting("dhcp.dns", "Name servers", "Empty: those of this machine"),
        ),
    ),
    Group(
        "radius",
        "RADIUS",
        (
            Setting("radius.public_address", "Address for routers", "Where they reach this machine behind a NAT"),
            Setting("radius.interim_interval_s", "Report interval, seconds", "How often routers report each session"),
            Setting("radius.radsec_port", "RadSec port", "Routers that come over TLS; 0 is nowhere", "0|2083"),
            Setting("radius.log_logins", "Note each login", "In the log, not only those that were refused"),
            Setting("portal.router_hosts", "Names of hotspots", "MikroTik's that show our login page by a name"),
            Setting("tunnel.enabled", "Tunnels", "WireGuard for routers that can't be reached otherwise"),
        ),
    ),
    Group(
        "privacy",
        "Privacy",
        (
            Setting("privacy.keep_sessions_days", "Keep sessions, days", "What the law asks for where you are"),
            Setting("privacy.keep_refusals_days", "Keep refused logins, days"),
        ),
    ),
)
