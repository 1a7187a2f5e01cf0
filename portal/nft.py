"""The nft program, which turns text into one transaction."""

import subprocess

from portal.netlink import KernelRefusal

TIMEOUT_S = 30


def load(text: str) -> None:
    """Raises KernelRefusal, and nothing has changed."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefusal(f"nft can't be run: {error}") from None
    if done.returncode:
        complaint = done.stderr.partition("\n")[0]
        raise KernelRefusal(f"nft refuses a transaction: {complaint}")
