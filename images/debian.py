"""A Debian made by mmdebstrap(1) from the mirrors that this machine's own apt uses; the tests make theirs so, too."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def packages(text: str) -> list[str]:
    """Names from a package list; `#` begins a comment."""
    return [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]


def bootstrap(target: Path, codename: str, *options: str, env: Mapping[str, str] | None = None) -> None:
    """A Debian of that name, as a folder or as `.tar`; mmdebstrap keeps daemons from starting while it installs.

    Its mounts are made in a private namespace, so that the kernel removes them whatever happens to us.
    """
    run(
        *("unshare", "--mount", "--propagation", "private", "mmdebstrap", "--quiet", "--mode=root", *options),
        *(f"--aptopt={option}" for option in _apt_options()),
        *(codename, str(target), *_sources(codename)),
        env=env,
    )


def runs_here(arch: str) -> bool:
    """Whether this machine starts programs of that architecture, by itself or with qemu-user's help."""
    return subprocess.run(("arch-test", arch), capture_output=True, check=False).returncode == 0


def without(*folders: str) -> list[str]:
    """Options that leave folders out of every package."""
    return [f"--dpkgopt=path-exclude={folder}/*" for folder in folders]


def _sources(codename: str) -> list[str]:
    """Debian's own suites at this machine's mirrors, for another release."""
    shown = run(
        *("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(RELEASE) $(SITE)"),
        "Identifier: Packages",
    )
    ours = run("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").strip()
    lines = []
    for origin, component, release, site in (line.split() for line in shown.splitlines()):
        suite = release.removeprefix(ours)
        if origin == "Debian" and component == "main" and suite in ("", "-updates", "-security"):
            lines.append(f"deb [signed-by={_KEYRING}] {site} {codename}{suite} main")
    if not lines:
        raise RuntimeError(f"apt knows no mirror of Debian's {ours}: run `apt-get update`, see sources.list(5)")
    return sorted(set(lines))


def _apt_options() -> list[str]:
    """How this machine's apt gets its files: proxies, certificates, and whether dates are checked.

    Unless it says otherwise what a mirror refuses is asked for again, as apt does by itself from Debian 13 on.
    """
    lines = run("apt-config", "dump").splitlines()
    own = [line for line in lines if re.match(r"Acquire::(http|https|Check-|Retries|ForceIPv)", line)]
    return ['Apt::Install-Recommends "false"', 'Acquire::Languages "none"', 'Acquire::Retries "3"', *own]


def run(*words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Output of a program that has to succeed; raises RuntimeError with the end of what it said."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=cwd, umask=0o022, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
