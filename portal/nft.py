"""The nft program, which turns text into one transaction."""

import subprocess

from portal.netlink import KernelRefusal

TIMEOUT_S = 30


def load(text: str) -> None:
    """Raises KernelRefusal, and nothing has changed."""
    done = _run(["-f", "-"], text)
    if done.returncode:
        complaint = done.stderr.partition("\n")[0]
        raise KernelRefusal(f"nft refuses a transaction: {complaint}")


def listed(kind: str, table: str, name: str) -> str:
    """A chain or a set as text, empty where there is none."""
    return _run(["list", kind, *table.split(), name]).stdout


def _run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments], input=text, text=True, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefusal(f"nft can't be run: {error}") from None
