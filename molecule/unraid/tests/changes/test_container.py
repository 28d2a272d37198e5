"""Somebody removes the container, or has another of that name."""

from __future__ import annotations

import pytest


def test_a_container_that_was_removed_is_restored(relay, deploy, goes_out) -> None:
    relay.remove()
    assert deploy().changed == [
        "relay : Ensure the container is as the inventory says",
        "relay : Ensure the new container answers, or the one before",
    ]
    goes_out()


@pytest.fixture
def foreign(relay, at_tower) -> str:
    """Another container has the relay's name."""
    relay.remove()
    command = ["run", "--detach", "--name", relay.name, "--entrypoint", "sleep", "--stop-signal", "KILL"]
    command += ["smtp-relay-test/tower", "600"]
    return at_tower("docker", *command).strip()


def test_a_container_that_is_not_ours_is_adopted_only_when_asked_to(foreign, relay, deploy, goes_out) -> None:
    assert f"has a container {relay.name} (image smtp-relay-test/tower)" in deploy().refusal()
    assert deploy("playbooks/uninstall.yml").refusal() == (
        f"The container {relay.name} on tower was not made by these playbooks, so it stays. "
        f"To remove it by hand: docker rm -f {relay.name}"
    )
    assert relay.inspect(relay.name)["Id"] == foreign

    assert deploy(relay_adopt=True).refusal() == ""
    assert relay.inspect(relay.name)["Config"]["Labels"]["smtp-relay.managed"] == "ansible"
    goes_out()
