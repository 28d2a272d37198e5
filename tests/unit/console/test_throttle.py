"""How guessing is slowed."""

import pytest

from relay_app.console import throttle
from relay_app.console.throttle import Throttle, network_of


def waits(throttle: Throttle, guesser: str, attempts: int, clock) -> list[float]:
    """The wait before each further attempt, when each is made as soon as it may be."""
    found = []
    for _ in range(attempts):
        wait = throttle.attempt(guesser)
        found.append(wait)
        if wait:
            clock.advance(wait)
            assert throttle.attempt(guesser) == 0.0
    return found


def test_waits_grow_to_five_minutes(clock) -> None:
    assert waits(Throttle(clock), "a", 14, clock) == [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_one_guesser_does_not_slow_another(clock) -> None:
    throttle = Throttle(clock)
    for _ in range(4):
        throttle.attempt("a")
    assert throttle.attempt("a") > 0
    assert throttle.attempt("b") == 0


def test_an_early_attempt_does_not_prolong_the_wait(clock) -> None:
    throttle = Throttle(clock)
    for _ in range(3):
        throttle.attempt("a")
    clock.advance(0.75)
    assert throttle.attempt("a") == 0.25
    assert throttle.attempt("a") == 0.25


def test_the_right_password_starts_afresh(clock) -> None:
    throttle = Throttle(clock)
    for _ in range(3):
        throttle.attempt("a")
    throttle.succeeded("a")
    throttle.succeeded("unknown")
    assert [throttle.attempt("a") for _ in range(4)] == [0, 0, 0, 1]


def test_all_is_forgotten_after_an_hour(clock) -> None:
    throttle = Throttle(clock)
    waits(throttle, "a", 14, clock)
    clock.advance(300 + 3601)
    assert waits(throttle, "a", 4, clock) == [0, 0, 0, 1]


def test_memory_is_bounded(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_MAX_RECORDS", 2)
    counted = Throttle(clock)
    for _ in range(3):
        counted.attempt("a")
    counted.attempt("b")
    assert counted.attempt("a") == 1
    counted.attempt("c")  # drops the one used least recently: a's early attempt was no use
    assert counted.attempt("a") == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network
