"""The laws of the house, kept by reading imports: who may know whom, and who may use which library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("appliance", "rlm_python", "portal", "collector", "images")

RULES_MAY_IMPORT = (
    "rlm_python",
    "appliance.config",
    "appliance.db",
    "appliance.errors",
    "appliance.crypto",  # account passwords are sealed with it
    "appliance.accounts",
    "appliance.island",
    "appliance.nas.models",
)
NEVER_IN_RULES = ("bottle", "pyroute2", "pyftpdlib", "numpy", "jinja2", "waitress", "supervisor", "pyrad")
ONLY_IMPORTERS = {
    "bottle": ("*/web.py", "portal/capport.py", "portal/http.py", "appliance/admin/*.py"),
    "pyroute2": ("portal/shaping.py", "portal/gateway.py"),
    "pyrad": ("portal/radius.py", "appliance/nas/coa.py", "appliance/nas/status.py"),
    "acme": ("appliance/acme_client.py",),
    "josepy": ("appliance/acme_client.py",),
    "requests": ("appliance/acme_client.py",),
    "pyrage": ("appliance/age.py",),
    "pyftpdlib": ("appliance/vault/server.py", "appliance/vault/ftp_*.py"),
    "OpenSSL": ("appliance/vault/ftp_*.py",),
    "duckdb": ("collector/*.py", "collector/store/*.py", "collector/cluster/*.py"),
    "clickhouse_driver": ("collector/cluster/*.py",),
    "fpdf": ("appliance/accounts/sheets.py", "appliance/dealers/paper.py"),
    "segno": ("appliance/accounts/sheets.py",),
    "radiusd": ("rlm_python/hotspot.py",),
}
STRANGERS = {
    "portal": ("collector", "appliance.vault", "appliance.dealers"),
    "collector": ("portal", "appliance.vault", "appliance.dealers"),
    "appliance/vault": ("appliance.dealers", "portal", "collector"),
    "appliance/dealers": ("appliance.vault", "portal", "collector"),
}
PURE = ("rlm_python/authorization.py", "rlm_python/time_windows.py", "rlm_python/speed_limits.py", "portal/ruleset.py")
EFFECTS = ("os", "time", "socket", "subprocess", "sqlite3", "peewee", "random", "threading", "logging")
PORTAL_NEVER_OPENS_CORE = ("peewee", "appliance.db", "appliance.accounts", "appliance.nas", "appliance.crypto")


def files(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def matches(path: Path, *patterns: str) -> bool:
    return any(path.relative_to(ROOT).match(pattern) for pattern in patterns)


def test_there_is_something_to_read() -> None:
    assert len(files(*ROOMS)) > 30


@pytest.mark.parametrize("path", files("rlm_python"), ids=where)
def test_the_rules_know_accounts_and_nothing_else(path: Path) -> None:
    for name in imports(path):
        assert not within(name, *ROOMS) or within(name, *RULES_MAY_IMPORT), f"{where(path)} imports {name}"
        assert not within(name, *NEVER_IN_RULES), f"{where(path)} imports {name}"


@pytest.mark.parametrize("path", files(*ROOMS), ids=where)
def test_a_library_has_one_importer_a_room(path: Path) -> None:
    for name in imports(path):
        for library, importers in ONLY_IMPORTERS.items():
            assert not within(name, library) or matches(path, *importers), f"{where(path)} imports {name}"


@pytest.mark.parametrize("room", STRANGERS)
def test_modules_do_not_know_each_other(room: str) -> None:
    for path in files(room):
        for name in imports(path):
            assert not within(name, *STRANGERS[room]), f"{where(path)} imports {name}"


@pytest.mark.parametrize("name", PURE)
def test_decisions_are_pure(name: str) -> None:
    for imported in imports(ROOT / name):
        assert not within(imported, *EFFECTS), f"{name} imports {imported}"


def test_what_faces_guests_opens_no_database() -> None:
    reached, queue = set(), [ROOT / "portal/web.py"]
    while queue:
        path = queue.pop()
        reached.add(path)
        for name in imports(path):
            assert not within(name, *PORTAL_NEVER_OPENS_CORE), f"{where(path)} imports {name}"
            queue += [p for p in module_files(name) if p not in reached]
    assert ROOT / "portal/protocol.py" in reached


def module_files(name: str) -> Iterator[Path]:
    """The file of a dotted name, whether it names a module or something inside one."""
    for dotted in (name, name.rpartition(".")[0]):
        path = ROOT / (dotted.replace(".", "/") + ".py")
        if dotted and path.is_file():
            yield path


@pytest.mark.parametrize("path", [p for p in files(*ROOMS) if p.name == "__init__.py"], ids=where)
def test_packages_are_empty_so_that_importing_the_rules_loads_no_pages(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", files(*ROOMS), ids=where)
def test_functions_and_files_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{where(path)} has more than 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1 - lines_of_text(node)
            assert length <= 50, f"{where(path)}:{node.lineno} {node.name} has {length} lines"


def lines_of_text(function: ast.FunctionDef) -> int:
    """Lines inside of string literals: a template is as long as what it stands for."""
    texts = [node for node in ast.walk(function) if isinstance(node, ast.JoinedStr | ast.Constant)]
    spans = {(text.lineno, text.end_lineno or 0) for text in texts}
    return sum(end - start for start, end in spans)
