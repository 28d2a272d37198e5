from relay_app.inbound.rate import HourlyRate


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_device_without_a_limit_never_waits() -> None:
    rate = HourlyRate(Clock())
    for _ in range(1000):
        rate.take("scanner", 0)
    assert rate.wait("scanner", 0) == 0.0


def test_the_hour_slides() -> None:
    clock = Clock()
    rate = HourlyRate(clock)
    for _ in range(3):
        assert rate.wait("scanner", 3) == 0.0
        rate.take("scanner", 3)
        clock.now += 600
    assert rate.wait("scanner", 3) == 1800.0
    assert rate.wait("other", 3) == 0.0
    clock.now += 1800
    assert rate.wait("scanner", 3) == 0.0
    rate.take("scanner", 3)
    assert rate.wait("scanner", 3) == 600.0


def test_a_smaller_limit_counts_at_once() -> None:
    clock = Clock()
    rate = HourlyRate(clock)
    for _ in range(5):
        rate.take("scanner", 10)
    assert rate.wait("scanner", 2) == 3600.0


def test_a_larger_limit_counts_at_once() -> None:
    clock = Clock()
    rate = HourlyRate(clock)
    for limit in (1, 1, 3, 3):
        rate.take("scanner", limit)
    assert rate.wait("scanner", 3) > 0
    assert rate.wait("scanner", 5) == 0.0
