"""The portal's servers in nginx's configuration."""

from collections.abc import Iterator

from appliance import web_server
from appliance.config import Config
from portal.languages import N_, offered

# Longer than the portal may take for a login: two tries of RADIUS and one of the gateway.
PORTAL_ANSWERS_WITHIN_S = 15
DOWN = N_("This page isn’t working right now. Please try again in a moment.")
BUSY = N_("Too many requests at once. Please try again in a moment.")


def sites(config: Config) -> Iterator[str]:
    """One without TLS, and one with it where the certificate is given."""
    yield _portal(config, f"listen {config.portal.http_port} default_server;\n")
    if config.portal.certificate and config.portal.key:
        tls = web_server.tls(config.portal.certificate, config.portal.key)
        yield _portal(config, f"listen {config.portal.https_port} ssl default_server;\n{tls}")


def _portal(config: Config, listen: str) -> str:
    socket = web_server.path(config.paths.run / "portal" / "portal.sock")
    body = f"""
limit_conn connections 20;
limit_req zone=requests burst=40 nodelay;

location / {{
    proxy_pass http://unix:{socket};
    proxy_read_timeout {PORTAL_ANSWERS_WITHIN_S}s;
}}

error_page 502 504 =503 @down;
error_page 429 @busy;
"""
    down = web_server.static("@down", 503, _in_all(config, DOWN))
    return web_server.server(listen + body + down + web_server.static("@busy", 429, _in_all(config, BUSY)))


def _in_all(config: Config, text: str) -> dict[str, str]:
    """nginx can't tell which language a guest reads."""
    return {language.code: language.gettext(text) for language in offered(config)}
