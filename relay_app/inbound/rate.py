"""How many messages a device may hand in within an hour."""

from collections import deque
from collections.abc import Callable

_HOUR = 3600.0  # seconds


class HourlyRate:
    """Counts messages by device in a sliding hour. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._taken: dict[str, deque[float]] = {}

    def wait(self, device: str, limit: int) -> float:
        """Return how many seconds the device must wait until it may hand in one more; 0.0: none."""
        taken = self._lately(device)
        return 0.0 if not limit or len(taken) < limit else taken[-limit] + _HOUR - self._clock()

    def take(self, device: str, limit: int) -> None:
        """Count one message."""
        if limit:
            self._lately(device).append(self._clock())

    def _lately(self, device: str) -> deque[float]:
        taken = self._taken.setdefault(device, deque())
        while taken and taken[0] <= self._clock() - _HOUR:
            taken.popleft()
        return taken
