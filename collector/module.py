"""The netflow module: who listens, who seals, who sends our own gateway's flows, and the files they read."""

import json
import time
from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from appliance.config import Config
from appliance.core import LOOPBACK
from appliance.nas.models import GATEWAY, Nas
from appliance.service import Attention, Directory, File, Group, Module, Service, Setting, Tile, is_enabled, python
from appliance.units import format_bytes
from collector import clustered, exporters, finding, places
from collector.exporters import Exporter

USER = "gatehouse-collector"
SENDER = "gatehouse-exporter"
STALE_S = 15
_EXPIRE_S, _QUIET_S, _LIFE_S = 1, 10, 60  # of softflowd's flows, so that a guest's are found seconds later


COLLECTOR = Service(
    name="collector",
    description="takes the flows that routers send",
    user=USER,
    capabilities=("net_admin",),  # for the socket's buffer, and given up after that
    command=lambda config: python("collector.receive"),
    reads=("paths", "netflow"),
    writes=lambda config: [config.paths.state / places.STATE, config.paths.run / places.RUN],
    umask=0o027,
    disk=True,
)
FLOWS = Service(
    name="flows",
    description="makes flows of what was received, and keeps them",
    user=USER,
    after=("collector",),
    command=lambda config: ["/usr/bin/nice", "--adjustment=10", *python("collector.sealer")],
    reads=("paths", "netflow"),
    writes=lambda config: [config.paths.state / places.STATE, config.paths.run / places.RUN],
    umask=0o027,
    disk=True,
)
LOADER = Service(
    name="flows-loader",
    description="loads flows into the cluster",
    user=USER,
    after=("flows",),
    command=lambda config: ["/usr/bin/nice", "--adjustment=10", *python("collector.loader")],
    reads=("paths", "netflow", "site"),
    writes=lambda config: [config.paths.state / places.STATE, config.paths.run / places.RUN],
    umask=0o027,
    disk=True,
    wanted=lambda config: bool(config.netflow.store),
)
EXPORTER = Service(
    name="exporter",
    description="sends the flows of the guests behind our own gateway",
    user=SENDER,
    capabilities=("net_raw",),
    after=("gateway", "collector"),
    command=lambda config: _softflowd(config),
    reads=("gateway", "netflow"),
    writes=lambda config: [config.paths.run / "exporter"],
    wanted=lambda config: has_gateway(config),
)


def has_gateway(config: Config) -> bool:
    """Whether the appliance is a router itself, and is to send what its guests do."""
    return config.netflow.gateway and config.gateway.enabled and is_enabled(config, "hotspot")


def _target(config: Config) -> str:
    """Where the gateway's own flows are sent, and so the address that they come from."""
    return LOOPBACK if ip_address(config.netflow.listen).is_unspecified else config.netflow.listen


def _softflowd(config: Config) -> list[str]:
    """Before NAT, as it reads the guests' own device; softflowd(8).

    It opens libpcap without a time-out, so that it sees packets only once a block of 128 KB (some 1,400 of them) is
    full: with little traffic a flow is told later, with its right times.
    """
    target = _target(config)
    host = f"[{target}]" if ":" in target else target
    folder = config.paths.run / "exporter"
    times = {"maxlife": _LIFE_S, "expint": _EXPIRE_S, "tcp.rst": _EXPIRE_S, "tcp.fin": _EXPIRE_S}
    times |= dict.fromkeys(("tcp", "udp", "icmp", "general"), _QUIET_S)
    return [
        "/usr/sbin/softflowd",
        *("-d", "-N", "-v", "10", "-b", "-A", "milli", "-T", "ether"),
        *("-i", config.gateway.lan, "-n", f"{host}:{config.netflow.port}"),
        *("-p", str(folder / "softflowd.pid"), "-c", str(folder / "softflowd.ctl")),
        *(word for name, seconds in times.items() for word in ("-t", f"{name}={seconds}")),
    ]


def render(config: Config) -> list[File]:
    """The collector notices a change by itself within a second: nothing that is on its way is lost."""
    return [File(places.EXPORTERS, exporters.text(_exporters(config)), USER, ())]


def _exporters(config: Config) -> Iterator[Exporter]:
    for nas in Nas.select().order_by(Nas.name):
        if nas.kind != GATEWAY:
            for network in addresses(nas):
                yield Exporter(ip_network(network), str(nas.name), bool(nas.netflow))
    if has_gateway(config):
        yield Exporter(ip_network(_target(config)), GATEWAY, True)


def addresses(nas: Any) -> list[str]:
    """Where a router's flows come from: what it asks RADIUS from, in its tunnel too, unless it is told otherwise."""
    return str(nas.netflow_from).split() or [str(nas.address)]


def status(config: Config) -> dict[str, Any] | None:
    """What the collector said last, None where it says nothing."""
    try:
        said: dict[str, Any] = json.loads((config.paths.run / places.STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said


def problems(config: Config, own: bool = False) -> Iterator[str]:
    """`own`: not those of the data disk and the cluster."""
    said = status(config)
    if said is None or time.time() - said["at_ms"] / 1000 > STALE_S:
        yield "the collector of flows doesn't say how it is"
    elif said["problem"] and not own:
        yield f"flows: {said['problem']}"
    if config.netflow.store and not own:
        yield from (f"flows: {line}" for line in clustered.problems(config, int(time.time())))


def lines(config: Config) -> Iterable[str]:
    """What `gatehouse status` says of it."""
    said = status(config)
    if said is None:
        return
    if said["problem"]:
        yield f"flows: {said['problem']}; {format_bytes(said['spooled_bytes'])} wait on the system's disk"
    if dropped := {cause: count for cause, count in said["dropped"].items() if count}:
        words = ", ".join(f"{count} ({cause})" for cause, count in sorted(dropped.items()))
        yield f"flows: datagrams lost since the collector was started: {words}"
    if config.netflow.store:
        yield from (f"flows: {line}" for line in clustered.lines(config))


def attention(config: Config, now: int) -> Iterator[Attention]:
    from collector import overview  # it asks who sends, which is said here

    return overview.attention(config, now)


def tiles(config: Config, now: int) -> Iterator[Tile]:
    from collector import overview

    return overview.tiles(config, now)


SETTINGS = Group(
    "netflow",
    "Flows",
    (
        Setting("netflow.port", "UDP port", "That routers send their flows to"),
        Setting("netflow.gateway", "Our own gateway's too", "What guests behind this machine do is kept likewise"),
        Setting("netflow.keep_days", "Keep flows, days", "What the law asks for where you are"),
        Setting("netflow.keep_gb", "Keep flows, GB", "At most; 0: as much as the data disk holds"),
        Setting("netflow.journal_hours", "Keep datagrams, hours", "As they came, to be read anew"),
        Setting("netflow.journal_gb", "Keep datagrams, GB", "At most"),
        Setting("netflow.spool_mb", "While the disk is away, MB", "What is kept meanwhile on the system's disk"),
    ),
)

NETFLOW = Module(
    name="netflow",
    title="NetFlow",
    summary="Keeps the header of every flow that routers send, finds and counts them",
    chapter="netflow.md",
    services=(COLLECTOR, FLOWS, LOADER, EXPORTER),
    directories=(
        Directory("state", places.STATE, USER, USER, 0o750),
        Directory("run", places.RUN, USER, USER, 0o2750),
        Directory("run", "exporter", SENDER, SENDER, 0o750),
        Directory("data", places.DISK, USER, USER, 0o2750),
    ),
    render=render,
    verify=lambda config: None,
    problems=problems,
    own_problems=partial(problems, own=True),
    lines=lines,
    attention=attention,
    tiles=tiles,
    search=(finding.SEARCH,),
    web=(
        "collector.web",
        "collector.web_statistics",
        "collector.web_exporters",
        "collector.web_storage",
        "collector.web_who",
        "appliance.nas.web",
    ),
    api=("collector.api", "appliance.nas.api"),
    metrics=("collector.metrics",),
    checks=("collector.checks",),
    settings=(SETTINGS,),
)
