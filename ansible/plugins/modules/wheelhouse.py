#!/usr/bin/python
"""Module `wheelhouse`: a product and all it needs as one archive of wheels."""

import configparser
import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: wheelhouse
short_description: Make an archive of wheels from a source tree, for another machine's Python
description:
  - Builds the tree's own wheel and downloads those of its dependencies with this machine's pip and its settings.
  - What was made once from the same files is taken from the cache, so that machines that never change never change.
  - Meant to be delegated to the controller.
options:
  source:
    description: The tree with setup.cfg, and the packages that it names.
    type: path
    required: true
  python:
    description: The target's Python, such as 3.13.
    type: str
    required: true
  machine:
    description: The target's processor as uname(1) names it.
    type: str
    default: x86_64
  cache:
    description: The folder with the archives.
    type: path
    required: true
author: The Gatehouse authors
attributes:
  check_mode:
    description: An archive may be made in check mode too; only the cache changes.
    support: none
"""
EXAMPLES = """
- name: Make wheels
  gatehouse.appliance.wheelhouse:
    source: /usr/src/gatehouse
    python: "3.13"
    cache: /var/cache/gatehouse/wheelhouse
  delegate_to: localhost
"""
RETURN = """
archive:
  description: A tar file of wheels.
  type: str
  returned: always
digest:
  description: The beginning of the SHA-256 of the archive.
  type: str
  returned: always
"""

FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
KEPT = 6  # archives in the cache
EPOCH = os.environ.get("SOURCE_DATE_EPOCH", "315532800")  # 1980, the oldest time that a wheel can have
SOURCES = ("pyftpdlib",)  # those of which there is no wheel; of Python only, so that one made here does anywhere
# pyftpdlib's, which Python had itself before: pip asks the Python that it runs on what is needed, not the target's.
MORE = {"3.11": (), "3.13": ("pyasynchat", "pyasyncore")}
GLIBC = {"3.11": 36, "3.13": 41}  # Debian 12, Debian 13


class Failure(Exception):
    """What the operator reads."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "machine": {"type": "str", "default": "x86_64"},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    os.umask(0o022)
    try:
        archive = cached(Path(given["source"]), given["python"], given["machine"], Path(given["cache"]))
    except (Failure, OSError) as error:
        module.fail_json(msg=str(error))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    # What was cached is none of the target's changes.
    module.exit_json(changed=False, archive=str(archive), digest=digest)


def cached(source: Path, python: str, machine: str, cache: Path) -> Path:
    if python not in GLIBC:
        raise Failure(f"no wheels can be made for Python {python}; there are: {', '.join(GLIBC)}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=cache) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = Path(folder) / "tree"
        copy(source, tree)
        archive = cache / f"{key(tree, python, machine)}.tar"
        if not archive.exists():
            made = make(tree, python, machine, Path(folder))
            made.rename(archive)
            forget_old(cache)
        archive.touch()  # it is in use
        return archive


def copy(source: Path, tree: Path) -> None:
    """What goes into the wheel, and no traces of builds in the tree itself."""
    settings = configparser.ConfigParser()
    if not settings.read(source / "setup.cfg"):
        raise Failure(f"{source}: there is no setup.cfg: set gatehouse_source to a clone")
    patterns = settings["options.packages.find"]["include"].split()
    tree.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists() and any(fnmatch.fnmatch(path.name, p) for p in patterns):
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif path.name in FILES:
            shutil.copyfile(path, tree / path.name)
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def key(tree: Path, python: str, machine: str) -> str:
    digest = hashlib.sha256(json.dumps([python, machine, EPOCH]).encode())
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(tree)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


def make(tree: Path, python: str, machine: str, folder: Path) -> Path:
    wheels = folder / "wheels"
    pip("wheel", "--no-deps", f"--wheel-dir={wheels}", str(tree))
    (product,) = wheels.iterdir()
    for wanted in sources(tree):
        pip("wheel", "--no-deps", f"--no-binary={wanted.split()[0]}", f"--wheel-dir={wheels}", wanted)
    abi = f"cp{python.replace('.', '')}"
    pip(
        *("download", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp"),
        *(f"--abi={name}" for name in (abi, "abi3", "none")),
        *(f"--platform={name}" for name in platforms(machine, GLIBC[python])),
        *(f"--find-links={wheels}", f"--dest={wheels}", str(product), *MORE[python]),
    )
    archive = folder / "wheels.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for wheel in sorted(wheels.iterdir()):
            info = tarfile.TarInfo(wheel.name)
            info.size = wheel.stat().st_size
            with wheel.open("rb") as file:
                tar.addfile(info, file)
    return archive


def sources(tree: Path) -> Iterator[str]:
    """With their ranges."""
    settings = configparser.ConfigParser()
    settings.read(tree / "setup.cfg")
    for wanted in settings["options"]["install_requires"].split("\n"):
        if wanted.partition(" ")[0] in SOURCES:
            yield wanted


def platforms(machine: str, glibc: int) -> Iterator[str]:
    """Newest first, PEP 600 and its older names."""
    yield from (f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 16, -1))
    yield f"manylinux2014_{machine}"


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"pip {words[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def forget_old(cache: Path) -> None:
    archives = sorted(cache.glob("*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[KEPT:]:
        old.unlink()


if __name__ == "__main__":
    main()
