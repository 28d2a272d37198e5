"""The sandbox's time, which a test can move forward."""

import time


class Clock:
    """Seconds since the epoch, plus what `advance` added. Lifetimes and rates are measured with it."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once: tokens expire, rates recover. Nobody is woken by it."""
        self._offset += seconds

    def reset(self) -> None:
        self._offset = 0.0
