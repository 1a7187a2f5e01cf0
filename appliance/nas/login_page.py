"""`gatehouse nas login-html`: the pages that a MikroTik router's hotspot gets, which lead to the portal's.

Its variables are those of help.mikrotik.com/docs, "Hotspot customisation"; the router fills them in.
"""

from html import escape
from ipaddress import IPv4Address
from typing import Any

from appliance.config import Config
from appliance.config_portal import MIKROTIK_PAGE
from appliance.nas import reach

LOGIN = "login"
PAGES = {  # what each hands over
    LOGIN: ("link-login-only", "link-orig", "chap-id", "chap-challenge", "error"),
    "status": ("link-logout",),
    "logout": ("link-login-only",),
    "error": ("link-login-only", "error"),
}
_PAGE = """\
<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="pragma" content="no-cache">
<meta http-equiv="expires" content="-1">
<title>Wi-Fi</title>
</head>
<body>
<form name="forward" action="{url}" method="get">
{fields}
<button>Wi-Fi &rarr;</button>
</form>
<script>document.forward.submit();</script>
</body>
</html>
"""


def add_parser(verbs: Any) -> None:
    words = verbs.add_parser(
        "login-html", help="print the login page for a router's hotspot, which leads to the portal's"
    )
    words.add_argument("--server", type=IPv4Address, metavar="ADDRESS", help="where guests of it reach this machine")
    words.add_argument("--page", choices=PAGES, default=LOGIN, help="another of its pages, for who is online already")
    words.set_defaults(run=lambda args, config: login_html(config, args.server, args.page))


def login_html(config: Config, server: IPv4Address | None = None, page: str = LOGIN) -> str:
    """To be saved as PAGE.html in the router's folder for its hotspot.

    `server` is where the router's guests reach this machine; raises UserError where that can't be known.
    """
    values = {name: f"$({name})" for name in PAGES[page]} | ({} if page == LOGIN else {"page": page})
    fields = "\n".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in values.items())
    return _PAGE.format(url=escape(page_url(config, server)), fields=fields)


def page_url(config: Config, server: IPv4Address | None = None) -> str:
    """The portal's page for routers: by name where there is a certificate for it."""
    portal = config.portal
    if portal.certificate:
        return f"https://{portal.hostname}:{portal.https_port}{MIKROTIK_PAGE}"
    return f"http://{server or reach.endpoint(config)}:{portal.http_port}{MIKROTIK_PAGE}"
