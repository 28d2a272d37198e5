"""A wrong setting never takes the relay away: whoever hands in mail meanwhile hardly notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ELSEWHERE = "198.51.100.1"  # documentation's: no host has it


@pytest.fixture
def files(relay, at_tower) -> Callable[[], set[str]]:
    """What the relay reads: each file with its size and the time when it was written."""
    places = [f"{relay.directory}/{name}" for name in ("config", "secrets", "certs")]
    return lambda: {*at_tower("find", *places, "-type", "f", "-printf", r"%p %M %U:%G %s %T@\n").splitlines()}


@pytest.mark.parametrize(
    ("typo", "sentence"),
    [
        ({"relay_port": "70000"}, "relay_port: '70000' cannot be published"),
        # What only the relay itself knows, with its files written already.
        ({"relay_console_url": "nonsense"}, "RELAY_WEB_URL: 'nonsense' is not an address such as"),
    ],
    ids=["a port", "an address of the console"],
)
def test_a_typo_is_refused_and_the_relay_never_stops_answering(
    relay, deploy, files, submitter, typo: dict[str, object], sentence: str
) -> None:
    before, read, moments = relay.started, files(), len(submitter.moments)
    refusal = deploy(**typo).refusal()
    assert sentence in refusal
    assert relay.started == before
    assert files() == read
    assert submitter.turned_away == []
    assert len(submitter.moments) > moments


def test_what_nobody_can_know_before_is_taken_back_with_its_settings(
    relay, world, deploy, files, submitter, goes_out
) -> None:
    container, read = relay.inspect(relay.name), files()
    (mailbox,) = world["relay_mailboxes"]
    devices = [*mailbox["devices"], {"name": "camera"}]
    done = deploy(relay_port=f"{ELSEWHERE}:22587", relay_mailboxes=[mailbox | {"devices": devices}])

    refusal = done.refusal()
    assert "The relay does not run as it is set up now. What ran before, " in refusal
    assert "is running again, with its settings and all data. The new one said:" in refusal
    assert "cannot assign requested address" in refusal
    assert f"All of its log: docker logs {relay.name}-next" in refusal
    again = relay.inspect(relay.name)
    assert again["Id"] == container["Id"]
    assert again["HostConfig"] == container["HostConfig"]
    assert files() == read
    goes_out()
    assert submitter.moments[-1] > submitter.turned_away[-1]

    assert deploy().changed == ["relay : Ensure nothing is left of a container that did not work"]
    assert relay.inspect(relay.name)["Id"] == container["Id"]
