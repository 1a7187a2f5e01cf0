"""Figures for Prometheus, in its text format (0.0.4): those of the appliance itself, and of each enabled module.

A room's file has a class `Collector(config)` with `read(now)`; one is kept as long as the admin's process runs, so that
it may count on from one scrape to the next. Each runs inside the open core database, and looks at no large table whole.
"""

import importlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Literal, NamedTuple, Protocol

from appliance import apply, db, modules, systemd_units
from appliance.config import Config

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


class Metric(NamedTuple):
    """`name` is without the prefix that all have; a counter's ends in `_total`."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: Iterable[Sample]


class Reads(Protocol):
    def read(self, now: int) -> Iterable[Metric]: ...


def single(name: str, kind: Literal["gauge", "counter"], help_: str, value: float) -> Metric:
    return Metric(name, kind, help_, [Sample({}, value)])


def collectors(config: Config) -> list[Reads]:
    names = [name for module in modules.enabled(config) for name in module.metrics]
    names += ["appliance.sites.metrics", "appliance.island.metrics"] if config.fleet else []
    return [Collector(config), *(importlib.import_module(name).Collector(config) for name in names)]


def text(metrics: Iterable[Metric]) -> str:
    return "".join(line for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    name = f"gatehouse_{metric.name}"
    yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"
    for sample in metric.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        yield f"{name}{{{labels}}} {sample.value}\n" if labels else f"{name} {sample.value}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Collector:
    """Of the machine and its services."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, now: int) -> Iterator[Metric]:
        build = [Sample({"version": version("gatehouse")}, 1)]
        yield Metric("build_info", "gauge", "What runs here.", build)
        enabled = modules.enabled(self._config)
        states = [Sample({"module": module.name}, int(module in enabled)) for module in modules.MODULES]
        yield Metric("module_enabled", "gauge", "1 where the module is enabled.", states)
        yield from self._services()
        yield from self._disks()

    def _services(self) -> Iterator[Metric]:
        """Only systemd tells it to those who aren't root."""
        if systemd_units.is_running():
            states = apply.states(self._config, modules.running(self._config))
            known = [Sample({"service": name}, int(state == "active")) for name, state in states.items() if state]
            yield Metric("service_up", "gauge", "1 where the service runs.", known)

    def _disks(self) -> Iterator[Metric]:
        paths = {"state": self._config.paths.state}
        if os.path.ismount(self._config.paths.data):
            paths["data"] = self._config.paths.data
        usage = {disk: shutil.disk_usage(path) for disk, path in paths.items()}
        free = [Sample({"disk": disk}, of.free) for disk, of in usage.items()]
        yield Metric("disk_free_bytes", "gauge", "Left on the disk of this folder.", free)
        size = [Sample({"disk": disk}, of.total) for disk, of in usage.items()]
        yield Metric("disk_size_bytes", "gauge", "What the disk of this folder holds.", size)
        if (file := db.sqlite_path(self._config.database_url)) is not None:
            files = [path for path in (file, file.with_name(f"{file.name}-wal")) if path.exists()]
            total = sum(path.stat().st_size for path in files)
            yield single("database_bytes", "gauge", "The core database and its write-ahead log.", total)
