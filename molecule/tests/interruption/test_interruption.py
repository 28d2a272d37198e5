"""A run that somebody stops leaves nothing that the next one cannot finish, and two runs never meet."""

from __future__ import annotations

from typing import Any

import pytest

# From the first file that is written to the start of the new container.
MOMENTS = [
    "Ensure the secrets are in their files",
    "Ensure the settings are in relay.toml",
    "Ensure the container is as the inventory says",
    "Ensure the new container answers, or the one before",
]


@pytest.fixture(scope="module")
def wanted(world) -> dict[str, Any]:
    """A change of all that there is to change: a device more, a port more, another way to start."""
    mailbox = dict(world["relay_mailboxes"][0])
    mailbox["devices"] = [*mailbox["devices"], {"name": "camera"}]
    return {"relay_mailboxes": [mailbox], "relay_tls_port": "127.0.0.1:28465", "relay_pids_limit": 200}


def test_a_second_run_is_refused_while_one_goes_on(play, wanted) -> None:
    with play.begun("playbooks/relay.yml", **wanted) as first:
        first.wait_for("Ensure every variable is one that a role reads")
        second = play("playbooks/relay.yml", **wanted)
        first.interrupt()
    assert second.code == 2, second.tail
    assert "Another run is going on (pid" in second.text
    assert "Wait for it, or end it: kill" in second.text


def test_whatever_was_interrupted_the_next_run_finishes(play, relay, wanted, goes_out) -> None:
    for moment in MOMENTS:
        play.interrupted(moment, "playbooks/relay.yml", **wanted)

    finished = play("playbooks/relay.yml", **wanted)
    assert finished.code == 0, finished.tail
    again = play("playbooks/relay.yml", **wanted)
    assert again.code == 0, again.tail
    assert again.changed == 0, again.tail
    assert relay.inspect(relay.name)["HostConfig"]["PidsLimit"] == 200
    goes_out("camera")
    goes_out()


def test_nothing_is_left_half_written(relay) -> None:
    assert relay.files("-name", ".host_file-*") == []
