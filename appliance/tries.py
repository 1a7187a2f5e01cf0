"""A limit on tries, against those who guess passwords."""

import threading
from collections import OrderedDict

TRIES_A_MINUTE = 10
MAX_KEYS = 20_000


class Tries:
    """At most so many a minute and key, as a token bucket; the keys not used for longest are forgotten first."""

    def __init__(self, a_minute: int = TRIES_A_MINUTE) -> None:
        self._a_minute = a_minute
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, keys: tuple[str, ...], now: float) -> int:
        """0 and counted, or the seconds until there is a try left for each of the keys."""
        with self._lock:
            left = {key: self._left(key, now) for key in keys}
            fewest = min(left.values())
            if fewest < 1:
                return max(1, round((1 - fewest) * 60 / self._a_minute))
            for key in keys:
                self._buckets[key] = left[key] - 1, now
                self._buckets.move_to_end(key)
            while len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
            return 0

    def _left(self, key: str, now: float) -> float:
        left, at = self._buckets.get(key, (self._a_minute, now))
        return min(self._a_minute, left + max(0.0, now - at) * self._a_minute / 60)
