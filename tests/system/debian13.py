"""A Debian 13 to try the product in: made once by mmdebstrap, kept in the cache, copied for each use.

The mirror is the one that this machine's own apt uses. Mounts are made in private namespaces only, so that the
kernel removes them whatever happens to us.
"""

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

CODENAME = "trixie"
VENV = "/opt/gatehouse"
TESTS = "/opt/gatehouse-tests"
PYTHON = f"{VENV}/bin/python"

_CACHE = Path("/var/cache/gatehouse-tests")
_TREE = Path(__file__).resolve().parents[2]
_PRODUCT = ("appliance", "rlm_python", "portal", "setup.cfg", "pyproject.toml")
_MADE_FROM = ("appliance/packages.txt", "setup.cfg", "tests/system/debian13.py")
_SYSTEM = ("systemd-sysv", "dbus")  # to boot it, and to ask it how it is
_ASKING = ("eapoltest", "poppler-utils", "zbar-tools")  # of tests/packages.txt, what the tests need inside
# Debian starts these by itself, with configurations of its own and on our ports.
_PACKAGED_SERVICES = ("freeradius.service", "nginx.service")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
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
            _run("cp", "-a", "--reflink=auto", str(_cached()), str(root))
            _install_product(root)
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


def packages(text: str) -> list[str]:
    """Names from a package list; `#` begins a comment."""
    return [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]


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
    excluded = ("man", "doc", "locale")
    bootstrap(
        root,
        CODENAME,
        *("--variant=minbase", f"--include={','.join(wanted)}"),
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in excluded),
        f'--customize-hook=chroot "$1" systemctl --quiet disable {" ".join(_PACKAGED_SERVICES)}',
    )


def bootstrap(root: Path, codename: str, *options: str) -> None:
    """A Debian of that name; mmdebstrap(1) keeps daemons from starting while it installs."""
    _run(
        *("unshare", "--mount", "--propagation", "private", "mmdebstrap", "--quiet", "--mode=root", *options),
        *(f"--aptopt={option}" for option in _apt_options()),
        *(codename, str(root), *_sources(codename)),
    )


def _sources(codename: str) -> list[str]:
    """Debian's own suites at this machine's mirrors, for another release."""
    shown = _run(
        *("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(RELEASE) $(SITE)"),
        "Identifier: Packages",
    )
    ours = _run("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").strip()
    lines = []
    for origin, component, release, site in (line.split() for line in shown.splitlines()):
        suite = release.removeprefix(ours)
        if origin == "Debian" and component == "main" and suite in ("", "-updates", "-security"):
            lines.append(f"deb [signed-by={_KEYRING}] {site} {codename}{suite} main")
    if not lines:
        raise RuntimeError(f"apt knows no mirror of Debian's {ours}: run `apt-get update`, see sources.list(5)")
    return sorted(set(lines))


def _apt_options() -> list[str]:
    """How this machine's apt gets its files: proxies, certificates, and whether dates are checked."""
    lines = _run("apt-config", "dump").splitlines()
    own = [line for line in lines if re.match(r"Acquire::(http|https|Check-|Retries|ForceIPv)", line)]
    return ['Apt::Install-Recommends "false"', 'Acquire::Languages "none"', *own]


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
    _copy(root / TESTS[1:], "tests", "pyproject.toml")


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
    _run(*words, env=environment)


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
    for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
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


def _run(*words: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, umask=0o022, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
