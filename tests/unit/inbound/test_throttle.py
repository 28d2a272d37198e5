import itertools

import pytest

from relay_app.errors import SmtpRefusal
from relay_app.inbound import throttle as module
from relay_app.inbound.throttle import Throttle, network_of

HOUR = 3600.0
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock)


def fail(throttle, times, device="scanner", address=HERE):
    return [throttle.failed(device, address) for _ in range(times)]


def banned(throttle, device="scanner", address=HERE):
    try:
        throttle.check(device, address)
    except SmtpRefusal:
        return True
    return False


def test_guessing_slows_then_bans(throttle):
    delays = []
    for _ in range(9):
        assert not throttle.failed("scanner", HERE)
        delays.append(throttle.delay("scanner", HERE, known=False))
        assert not banned(throttle)
    assert delays == [0, 0, 1, 2, 4, 8, 8, 8, 8]
    assert throttle.failed("scanner", HERE)
    assert banned(throttle)


def test_the_banned_wait_as_long_as_anybody_can(throttle):
    fail(throttle, 10)
    assert throttle.delay("scanner", HERE, known=False) == 8
    assert throttle.delay("scanner", HERE, known=True) == 8


def test_the_known_do_not_wait_for_the_failures_of_others(throttle):
    fail(throttle, 9)
    assert throttle.delay("scanner", HERE, known=True) == 0


def test_a_right_password_clears_the_pair(throttle):
    fail(throttle, 9)
    throttle.succeeded("scanner", HERE)
    assert throttle.delay("scanner", HERE, known=False) == 1  # the network's failures stay counted
    assert fail(throttle, 9) == [False] * 9


def test_a_neighbour_behind_the_same_nat_is_not_banned_with_the_pair(throttle):
    fail(throttle, 10)
    assert not banned(throttle, device="nas")
    assert throttle.delay("nas", HERE, known=False) == 1


def test_the_device_is_not_banned_elsewhere(throttle):
    fail(throttle, 10)
    assert not banned(throttle, address=ELSEWHERE)
    assert throttle.delay("scanner", ELSEWHERE, known=False) == 0


def test_names_tried_in_turn_ban_the_network(throttle):
    names = (f"name{number}" for number in itertools.count())
    assert [throttle.failed(next(names), HERE) for _ in range(30)] == [False] * 29 + [True]
    assert banned(throttle, device="never tried")


def test_a_device_guessed_from_many_networks_becomes_slow_for_strangers_only(throttle):
    for number in range(50):
        fail(throttle, 1, address=f"10.0.0.{number}")
    assert throttle.delay("scanner", ELSEWHERE, known=False) == 8
    assert throttle.delay("scanner", ELSEWHERE, known=True) == 0
    assert not banned(throttle, address=ELSEWHERE)


def test_a_device_named_like_an_address_is_not_that_network(throttle):
    """Else a stranger could have a network banned by trying its address as a name."""
    for number in range(60):
        fail(throttle, 1, device=ELSEWHERE, address=f"10.0.0.{number}")
    assert throttle.delay("scanner", ELSEWHERE, known=False) == 0
    assert not banned(throttle, address=ELSEWHERE)


def test_a_ban_ends_by_itself_and_doubles_up_to_a_day(throttle, clock):
    lengths = []
    for _ in range(9):
        fail(throttle, 10)
        began = clock.now
        while banned(throttle):
            clock.now += 60
        lengths.append((clock.now - began) / HOUR)
        throttle._records.pop(("network", HERE), None)  # this test is about the pair
    assert lengths == [0.25, 0.5, 1, 2, 4, 8, 16, 24, 24]


def test_bans_may_be_many(throttle, clock):
    """2.0**1024 is no float any more."""
    for _ in range(1100):
        fail(throttle, 10)
        clock.now += 24 * HOUR
    assert banned(throttle) is False
    fail(throttle, 10)
    assert banned(throttle)


@pytest.mark.parametrize(("seconds", "text"), [(0, "16 minutes"), (840, "2 minutes"), (870, "1 minute")])
def test_the_refusal_says_how_long(throttle, clock, seconds, text):
    fail(throttle, 10)
    clock.now += seconds
    with pytest.raises(SmtpRefusal, match=rf"^454 4\.7\.0 .* {HERE}\. .* {text}$"):
        throttle.check("scanner", HERE)


def test_a_day_without_failures_forgets(throttle, clock):
    fail(throttle, 9)
    clock.now += 24 * HOUR + 1
    assert throttle.delay("scanner", HERE, known=False) == 0
    assert fail(throttle, 9) == [False] * 9


def test_a_ban_is_not_forgotten_before_a_day_after_its_end(throttle, clock):
    for _ in range(8):
        fail(throttle, 10)
        clock.now += 24 * HOUR
    fail(throttle, 10)
    clock.now += 23.9 * HOUR
    assert banned(throttle)
    clock.now += 24 * HOUR
    fail(throttle, 10)
    clock.now += 23.9 * HOUR
    assert banned(throttle)


def test_memory_is_bounded(throttle, monkeypatch):
    monkeypatch.setattr(module, "_MAX_RECORDS", 30)
    for number in range(1000):
        fail(throttle, 1, device=f"name{number}", address=f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._records) == 30
    assert ("device", "name999") in throttle._records
    assert ("device", "name0") not in throttle._records


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_network(address, network):
    assert network_of(address) == network


def test_an_ipv6_network_is_one_client(throttle):
    for number in range(10):
        fail(throttle, 1, address=f"2001:db8::{number:x}")
    assert banned(throttle, address="2001:db8::ffff")
    assert not banned(throttle, address="2001:db8:0:1::1")
