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


def tables() -> list[str]:
    """Family and name of each."""
    return [line.removeprefix("table ") for line in _run(["list", "tables"]).stdout.splitlines()]


def _run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments], input=text, text=True, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefusal(f"nft can't be run: {error}") from None
