"""What the documents and the layout promise, held against the code."""

import dataclasses
import json
import re
import subprocess
import sys
import typing
import zipfile
from pathlib import Path

import pytest

from appliance import cli, config, modules, supervise, systemd_units
from appliance.core import CORE
from appliance.service import Module, Service

ROOT = Path(__file__).parents[1]
TOP = {"appliance", "rlm_python", "portal", "collector", "images", "ansible", "tests", "docs", ".ci"}
GIVEN = ("pyrad", "pyroute2", "peewee", "bottle", "jinja2")
DOCS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return listed.split("\n")[:-1]


def test_nothing_stands_outside_the_given_layout() -> None:
    assert {name.split("/")[0] for name in tracked() if "/" in name} <= TOP


@pytest.mark.parametrize("module", modules.MODULES, ids=lambda m: m.name)
def test_a_module_has_services_units_a_chapter_and_tests(module: Module) -> None:
    assert module.services
    assert (ROOT / "docs" / module.chapter).read_text().startswith(f"# The {module.title.lower()}")
    assert any(f'"{module.name}"' in path.read_text() for path in (ROOT / "tests" / "lab").glob("*.py"))
    units = systemd_units.render(config.Config(), module.services)
    assert {f"{service.unit}.service" for service in module.services} == set(units)


@pytest.mark.parametrize("service", [s for m in (CORE, *modules.MODULES) for s in m.services], ids=lambda s: s.name)
def test_a_service_is_nobody_special(service: Service) -> None:
    unit = systemd_units.render(config.Config(), [service])[f"{service.unit}.service"]
    program = supervise.render(config.Config(), [service]).text
    assert service.user not in ("root", "")
    assert f"User={service.user}\n" in unit
    assert f"--reuid={service.user} " in program
    assert "NoNewPrivileges=yes" in unit
    assert "--no-new-privs" in program
    held = " ".join(f"CAP_{name.upper()}" for name in service.capabilities)
    assert f"CapabilityBoundingSet={held}\n" in unit
    assert f"--bounding-set={','.join(['-all', *(f'+{c}' for c in service.capabilities)])} " in program


def test_every_user_of_a_service_is_made() -> None:
    made = (ROOT / "appliance/systemd/sysusers.conf").read_text()
    for module in (CORE, *modules.MODULES):
        for service in module.services:
            for name in (service.user, *service.groups):
                assert re.search(rf"^[ug] {name} ", made, re.M), name


def test_every_key_of_the_configuration_is_explained_with_its_default() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    for section, hint in typing.get_type_hints(config.Config).items():
        if not dataclasses.is_dataclass(hint):
            continue
        part = text.split(f"| **[{section}]** |")[1].split("| **[")[0]
        for field in dataclasses.fields(hint):
            assert f"| `{field.name}` |" in part, f"[{section}] {field.name}"
            default = getattr(getattr(config.Config(), section), field.name)
            if isinstance(default, int) or (isinstance(default, str) and default):
                shown = f"`{json.dumps(default)}`"  # the same as in TOML
                assert f"| `{field.name}` | {shown} |" in part, f"[{section}] {field.name}: {shown}"


def test_ports_in_the_handbook_are_the_defaults() -> None:
    ports = (ROOT / "docs/hotspot.md").read_text().split("## Ports")[1]
    defaults = config.Config()
    for port in (
        defaults.radius.authentication_port,
        defaults.radius.accounting_port,
        defaults.radius.authentication_status_port,
        defaults.radius.accounting_status_port,
        defaults.gateway.coa_port,
        defaults.portal.http_port,
        defaults.portal.https_port,
        defaults.admin.port,
    ):
        assert str(port) in ports


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_commands_of_make_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = "".join(path.read_text() for path in DOCS)
    for target in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.M):
        name = "bench-%" if target.startswith("bench-") else target
        assert re.search(rf"^{re.escape(name)}:", makefile, re.M), target
        if target.startswith("bench-"):
            assert (ROOT / f"tests/bench/{target.replace('-', '_')}.py").exists(), target


def test_subcommands_are_in_a_handbook() -> None:
    text = "".join(path.read_text() for path in DOCS)
    done = subprocess.run([sys.executable, "-m", "appliance.cli", "--help"], cwd=ROOT, capture_output=True, text=True)
    commands = re.findall(r"^    ([a-z-]+) ", done.stdout, re.M)
    assert len(commands) > 10
    for command in commands:
        assert f"gatehouse {command}" in text, command
    assert cli.main.__doc__


def test_dependencies_have_ranges() -> None:
    text = (ROOT / "setup.cfg").read_text()
    wanted = re.findall(r"^    ([a-z0-9-]+) (>=[^,\n]+),<\d", text, re.M)
    assert {name for name, _ in wanted} >= set(GIVEN)
    lines = text.split("install_requires =")[1].split("[options.packages.find]")[0].strip().splitlines()
    assert len(lines) == len([line for line in lines if ",<" in line])


def test_the_installed_product_has_all_its_files(tmp_path: Path) -> None:
    """What isn't Python is easily forgotten in a wheel."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    rooms = ("appliance/", "rlm_python/", "portal/", "collector/")
    assert {name for name in tracked() if name.startswith(rooms)} <= packed


def test_no_password_is_in_the_tree() -> None:
    rooms = ("appliance/", "rlm_python/", "portal/", "collector/")
    for name in tracked():
        if name.startswith(rooms):
            assert "testing123" not in (ROOT / name).read_text(errors="replace")
