"""FreeRADIUS as services: two processes that decide and write down, and one before them that takes RadSec."""

import sysconfig

from appliance.config import Config
from appliance.island import places
from appliance.launch import TREE
from appliance.nas.models import PROCESSES
from appliance.nas.raddb import RADSEC
from appliance.service import Service

_AFTER_LOGINS = ("/usr/bin/nice", "-n", "10")  # a flood of accounting leaves the processor to those who log in


def command(config: Config, process: str, *more: str) -> list[str]:
    """radiusd(8) with our raddb; `more` are further options, such as -C to check only."""
    return [
        *(_AFTER_LOGINS if process == "accounting" else ()),
        "/usr/sbin/freeradius",
        "-f",
        "-l",
        "stdout",
        "-d",
        str(config.paths.run / "raddb"),
        "-n",
        process,
        *more,
    ]


def _service(process: str) -> Service:
    return Service(
        name=f"radius-{process}",
        description=f"FreeRADIUS, {process}",
        user="gatehouse-radius",  # Debian puts freerad into the groups shadow and ssl-cert
        groups=("gatehouse-core",),
        command=lambda config: command(config, process),
        # rlm_python3 3.2.1 appends its python_path, so a library of the distribution's would win over ours.
        reads=("site", "paths", "database", "island", "radius"),
        environment=(
            ("GATEHOUSE_RADIUS", process),
            ("PYTHONPATH", f"{TREE}:{sysconfig.get_path('purelib')}"),
        ),
        writes=lambda config: [config.paths.state / "core", *places.written(config)],
    )


RADIUS = (
    *(_service(process) for process in PROCESSES),
    Service(
        name=f"radius-{RADSEC}",
        description="FreeRADIUS, RadSec",
        user="gatehouse-radius",
        groups=("gatehouse-core",),
        command=lambda config: command(config, RADSEC),
        reads=("paths", "radius"),
        wanted=lambda config: config.radius.radsec_port != 0,
    ),
)
