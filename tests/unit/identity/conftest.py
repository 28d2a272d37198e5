"""A clock and a flow that tests set by hand."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from relay_app.identity.tokens import AccessToken


class FakeClock:
    """Seconds since the epoch, and a monotonic clock: both move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.running = 5000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.running

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.running += seconds


class FakeFlow:
    """Answers with `life`-long tokens, or with `error`. `closed` holds requests back until `open()`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.user = "me@outlook.com"
        self.life = 3600.0
        self.error: Exception | None = None
        self.same = False
        self.vault_changed = False
        self.asked: list[bool] = []
        """`force` of each request."""
        self._gate = threading.Event()
        self._gate.set()

    def close(self) -> None:
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def fetch(self, *, force: bool) -> AccessToken:
        self.asked.append(force)
        self.vault_changed = False
        assert self._gate.wait(30)
        if self.error is not None:
            raise self.error
        number = 0 if self.same else len(self.asked)
        return AccessToken(f"token-{number}", self.user, self.clock.now + self.life)

    def changed(self) -> bool:
        return self.vault_changed


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def flow(clock: FakeClock) -> FakeFlow:
    return FakeFlow(clock)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], object]:
    """Wait until a condition holds; the test's own time limit is the end of it."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 (any condition, set by any thread)
            await asyncio.sleep(0.001)

    return wait
