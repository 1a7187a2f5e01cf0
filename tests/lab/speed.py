"""Whether a measured speed keeps to a plan."""

from collections.abc import Callable

TRIES = 3


def keeps_to(plan_bps: float, measure: Callable[[], float]) -> None:
    """Never more than 5 % above; within 10 % below in one of three, as a busy machine slows iperf3 itself down."""
    measured: list[float] = []
    while not measured or (max(measured) < 0.9 * plan_bps and len(measured) < TRIES):
        measured.append(measure())
    shown = ", ".join(f"{bps / 1e6:.2f}" for bps in measured)
    assert 0.9 * plan_bps <= max(measured) <= 1.05 * plan_bps, f"{shown} of {plan_bps / 1e6:g} Mbit/s"
