"""Our own raddb for FreeRADIUS, rendered from the templates in rlm_python/raddb/; the packaged one stays untouched."""

import sysconfig
from importlib import resources
from pathlib import Path

import appliance
from appliance import templates
from appliance.config import Config
from appliance.nas.clients import Client
from appliance.service import File

PROCESSES = ("authentication", "accounting")
_GROUP = "gatehouse-core"


def render(config: Config, clients: list[Client]) -> list[File]:
    """The files of `paths.run`/raddb; secrets in them are why the group is FreeRADIUS's only."""
    source = resources.files("rlm_python") / "raddb"
    services = tuple(f"radius-{process}" for process in PROCESSES)
    shared = {name: (source / name).read_text(encoding="utf-8") for name in ("access_reject", "dictionary")}
    shared["clients.conf"] = templates.render("rlm_python.raddb", "clients.conf.j2", clients=clients)
    files = [File(f"raddb/{name}", text, _GROUP, services) for name, text in shared.items()]
    for process, service in zip(PROCESSES, services, strict=True):
        own = {
            f"{process}.conf": templates.render("rlm_python.raddb", "radiusd.conf.j2", **_values(config, process)),
            f"{process}.server": (source / f"{process}.server").read_text(encoding="utf-8"),
        }
        files += [File(f"raddb/{name}", text, _GROUP, (service,)) for name, text in own.items()]
    return files


def _values(config: Config, process: str) -> dict[str, object]:
    port = config.radius.authentication_port if process == "authentication" else config.radius.accounting_port
    return {
        "process": process,
        "raddb": config.paths.run / "raddb",
        "logs": config.paths.log,
        "listen": config.radius.listen,
        "port": port,
        "python_path": f"{Path(appliance.__file__).parents[1]}:{sysconfig.get_path('purelib')}",
    }
