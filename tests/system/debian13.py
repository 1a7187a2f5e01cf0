"""A Debian 13 to try the product in: made once by mmdebstrap, kept in the cache, copied for each use.

Mounts are made in private namespaces only, so that the kernel removes them whatever happens to us.
"""

import ast
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from images.debian import bootstrap, packages, run, without

CODENAME = "trixie"
VENV = "/opt/gatehouse"
TESTS = "/opt/gatehouse-tests"
PYTHON = f"{VENV}/bin/python"

_CACHE = Path("/var/cache/gatehouse-tests")
_TREE = Path(__file__).resolve().parents[2]
_PRODUCT = ("appliance", "rlm_python", "portal", "collector", "setup.cfg", "pyproject.toml")
_MADE_FROM = ("appliance/packages.txt", "setup.cfg", "images/debian.py", "tests/system/debian13.py")
_SYSTEM = ("systemd-sysv", "dbus")  # to boot it, and to ask it how it is
_ASKING = ("eapoltest", "nfdump", "poppler-utils", "zbar-tools")  # of tests/packages.txt, what the tests need inside
# Debian starts these by itself, with configurations of its own and on our ports.
_PACKAGED_SERVICES = ("freeradius.service", "nginx.service", "softflowd.service", "nfdump.service")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PIP = """
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; touch "$root$1"; fi
    mount --bind "$1" "$root$1"
    shift
done
shift
exec chroot "$root" "$@"
"""


@contextmanager
def debian13() -> Iterator[Path]:
    """A root file system of one's own with the product from this tree; removed at the end.

    One user at a time, so that what a killed one left can be told from what is in use.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    root = _CACHE / "in-use"
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(root, ignore_errors=True)
        try:
            run("cp", "-a", "--reflink=auto", str(_cached()), str(root))
            _install_product(root)
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _cached() -> Path:
    """The root file system with everything but the product; older ones make room for it."""
    made = _CACHE / f"debian13-{_digest()}"
    if not made.exists():
        for old in _CACHE.glob("debian13-*"):
            shutil.rmtree(old)
        new = made.with_suffix(".new")
        _make(new)
        _install_libraries(new)
        new.rename(made)
    return made


def _digest() -> str:
    digest = hashlib.sha256()
    for name in _MADE_FROM:
        digest.update((_TREE / name).read_bytes())
    return digest.hexdigest()[:16]


def _make(root: Path) -> None:
    wanted = [*packages((_TREE / "appliance" / "packages.txt").read_text(encoding="utf-8")), *_SYSTEM, *_ASKING]
    bootstrap(
        root,
        CODENAME,
        *("--variant=minbase", f"--include={','.join(wanted)}"),
        *without("/usr/share/man", "/usr/share/doc", "/usr/share/locale"),
        f'--customize-hook=chroot "$1" systemctl --quiet disable {" ".join(_PACKAGED_SERVICES)}',
    )


def _install_libraries(root: Path) -> None:
    """A virtual environment of Debian's own Python with what setup.cfg asks for, but not the product."""
    _copy(root / "src", "setup.cfg", "pyproject.toml")
    _pip(root, "python3", "-m", "venv", VENV)
    _pip(root, PYTHON, "-m", "pip", "install", "--quiet", "setuptools>=66", "/src[test]")
    _pip(root, PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "gatehouse")
    shutil.rmtree(root / "src")


def _install_product(root: Path) -> None:
    """As an operator would, from a copy: pip leaves its traces in the tree that it builds."""
    _copy(root / "src", *_PRODUCT)
    _pip(root, PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "/src")
    shutil.rmtree(root / "src")
    _copy(root / TESTS[1:], "tests", "docs", "pyproject.toml")


def _copy(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        source, target = _TREE / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, target)


def _pip(root: Path, *command: str) -> None:
    words, environment = inside(root, *command)
    run(*words, env=environment)


def inside(root: Path, *command: str) -> tuple[list[str], dict[str, str]]:
    """Words and environment that run a command in `root` with pip's settings of this machine, its local folders of
    packages included."""
    settings = _pip_settings()
    places = ["/etc/resolv.conf", *_named_paths(settings)]
    inherited = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    own = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PIP, "sh", str(root)]
    return [*words, *dict.fromkeys(places), "--", *command], inherited | settings | own


def _pip_settings() -> dict[str, str]:
    """All that `pip config` knows, from files and environment, as variables; later lines win."""
    settings = {"PIP_CERT": str(_CERTIFICATES), "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_CACHE_DIR": "1"}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2].upper().replace("-", "_")
        settings[f"PIP_{name}"] = str(ast.literal_eval(value)).replace("\n", " ")
    return settings


def _named_paths(settings: Mapping[str, str]) -> list[str]:
    """Files and folders of this machine that pip's settings point to.

    The pages of a local index lie in `simple`, and what they link to beside it (PEP 503).
    """
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    paths = [Path(word) for word in words if word.startswith("/")]
    return [str(path.parent if path.name == "simple" else path) for path in paths if path.exists()]
