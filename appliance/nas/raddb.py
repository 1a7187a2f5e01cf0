"""Our own raddb for FreeRADIUS, rendered from the templates in rlm_python/raddb/; the packaged one stays untouched."""

import sysconfig
from importlib import resources
from ipaddress import IPv4Address
from pathlib import Path

import appliance
from appliance import certificates, templates
from appliance.config import Config
from appliance.crypto import derived_secret
from appliance.db import sqlite_path
from appliance.nas.clients import Client
from appliance.nas.models import PROCESSES
from appliance.service import File

RADSEC = "radsec"
_GROUP = "gatehouse-core"
_TEMPLATES = "rlm_python.raddb"
_RADSEC_SOURCE = IPv4Address("127.83.0.0")  # 2083 is RadSec's port; each router gets its own address from here on
_AS_THEY_ARE = ("access_reject", "dictionary", "durable.pl")


def render(config: Config, clients: list[Client]) -> list[File]:
    """The files of `paths.run`/raddb; secrets in them are why the group is FreeRADIUS's only."""
    services = tuple(f"radius-{process}" for process in PROCESSES)
    clients_conf = templates.render(_TEMPLATES, "clients.conf.j2", clients=clients, radsec=_radsec(config, clients))
    files = [
        _file("clients.conf", clients_conf, *services),
        *(_file(name, _text(name), *services) for name in _AS_THEY_ARE),
        *_certificate_files("eap", certificates.server(config), services[0]),
        _file("policy.conf", _text("policy.conf"), services[0]),
        File("status.secret", status_secret(config), "gatehouse-jobs", ()),
    ]
    for process, service in zip(PROCESSES, services, strict=True):
        own = templates.render(_TEMPLATES, "radiusd.conf.j2", **_values(config, process))
        files.append(_file(f"{process}.conf", own, service))
        files.append(_file(f"{process}.server", _text(f"{process}.server"), service))
    return [*files, *_radsec_files(config, clients)] if config.radius.radsec_port else files


def _values(config: Config, process: str) -> dict[str, object]:
    file = sqlite_path(config.database_url)
    return {
        "process": process,
        "wal": f"{file}-wal" if file else None,
        "raddb": config.paths.run / "raddb",
        "logs": config.paths.log,
        "listen": config.radius.listen,
        "port": getattr(config.radius, f"{process}_port"),
        "status_port": getattr(config.radius, f"{process}_status_port"),
        "status_secret": status_secret(config),
        "log_logins": config.radius.log_logins,
        "python_path": f"{Path(appliance.__file__).parents[1]}:{sysconfig.get_path('purelib')}",
    }


def _radsec(config: Config, clients: list[Client]) -> dict[str, dict[str, str]]:
    """By router: the loopback address under which the other processes know it, and its certificate's serial number."""
    found = {}
    for client in clients if config.radius.radsec_port else ():
        serial = certificates.router_serial(config, client.name) if client.radsec else None
        if serial is not None:
            found[client.name] = {"source": str(_RADSEC_SOURCE + client.id), "serial": serial}
    return found


def _radsec_files(config: Config, clients: list[Client]) -> list[File]:
    """The process that takes TLS and hands on to the two others."""
    wildcard = config.radius.listen.is_unspecified
    values = {
        "raddb": config.paths.run / "raddb",
        "logs": config.paths.log,
        "listen": config.radius.listen,
        "server": IPv4Address("127.0.0.1") if wildcard else config.radius.listen,
        "radius": config.radius,
        "clients": clients,
        "radsec": _radsec(config, clients),
    }
    text = templates.render(_TEMPLATES, "radsec.conf.j2", **values)
    service = f"radius-{RADSEC}"
    return [
        _file(f"{RADSEC}.conf", text, service),
        _file("ca.pem", certificates.authority(config), service),
        *_certificate_files(RADSEC, certificates.own_server(config), service),
    ]


def _certificate_files(name: str, pair: certificates.Pair, service: str) -> list[File]:
    return [_file(f"{name}.pem", pair.certificate, service), _file(f"{name}.key", pair.key, service)]


def _file(name: str, text: str, *services: str) -> File:
    return File(f"raddb/{name}", text, _GROUP, services)


def _text(name: str) -> str:
    return (resources.files("rlm_python") / "raddb" / name).read_text(encoding="utf-8")


def status_secret(config: Config) -> str:
    """Whoever may read the key of the passwords can make it."""
    return derived_secret(config.paths.state, "radius status")
