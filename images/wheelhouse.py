"""The product and all its dependencies as wheels for a target's Python, made here: boxes never talk to a registry."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from images.debian import run

TREE = Path(__file__).resolve().parents[1]
PRODUCT = ("appliance", "rlm_python", "portal", "setup.cfg", "pyproject.toml", "README.md")
_PLATFORMS = ("manylinux_2_28_{arch}", "manylinux_2_17_{arch}", "manylinux2014_{arch}")


def make(folder: Path, python: str, machine: str, env: Mapping[str, str]) -> None:
    """Wheels for CPython `python` ("3.13") on `machine` ("x86_64"), from this tree as it lies here."""
    source = folder.with_name(f"{folder.name}.source")
    copy(source, *PRODUCT)  # pip leaves its traces in the tree that it builds
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source), env=env)
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    platforms = [f"--platform={platform.format(arch=machine)}" for platform in _PLATFORMS]
    run(
        *(*pip, "download", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms),
        *("--dest", str(folder), str(wheel)),
        env=env,
    )


def copy(folder: Path, *names: str) -> None:
    """Files and folders of this tree without what running it has left there."""
    folder.mkdir()
    for name in names:
        if (TREE / name).is_dir():
            shutil.copytree(TREE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(TREE / name, folder / name)
