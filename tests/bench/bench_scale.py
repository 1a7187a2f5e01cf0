"""What many sites stand on: PostgreSQL beside SQLite, ClickHouse beside our own segments. Nothing is asserted.

ROUNDS=…: of logins and accounting, 3 by default. FLOWS=…: 50 million by default.
"""

import signal
import sys
from types import FrameType

from tests.bench import scale_accounts, scale_flows
from tests.bench.report import show


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    show([*scale_accounts.comparisons(), *scale_flows.comparisons()])


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # leaves through all context managers, so processes and folders go


if __name__ == "__main__":
    main()
