"""`smtp-relay health`: what a container engine asks twice a minute."""

from collections.abc import Callable

from harness.relay import Relay, health


def test_it_says_whether_the_relay_answers(
    start_relay: Callable[..., Relay], settings: dict[str, str]
) -> None:
    assert health(settings) == 1

    relay = start_relay()
    assert health(settings) == 0

    relay.stop()
    assert health(settings) == 1
