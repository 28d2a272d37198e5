"""The array is stopped: overnight, or while Ansible runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.programs import wait_until


def test_the_relay_comes_back_with_the_array(relay, trouble, goes_out) -> None:
    """Some backups stop it every night, and Docker with it."""
    container, since = relay.started
    journal = sorted(relay.journal())[-10:]
    with trouble("array stop"):
        assert not relay.inspect(relay.name)["State"]["Running"]
    wait_until(relay.answers, "the relay answers", timeout=60)
    again, later = relay.started
    assert again == container
    assert later > since
    assert relay.journal() >= set(journal)
    goes_out()


@pytest.fixture
def midway(at_tower) -> Iterator[str]:
    """A playbook that stops the array between the checks and the deployment."""
    yield "molecule/unraid/array_stops_midway.yml"
    at_tower("/opt/tower/share", "attach")


def test_nothing_is_written_to_the_memory_in_its_place(midway, relay, deploy, at_tower, goes_out) -> None:
    said = deploy(midway).refusal()
    assert f"/mnt/user/appdata is not there, and so {relay.directory} cannot be made in it." in said
    assert "If it lies on the array or on another disk: is that started and mounted?" in said
    assert at_tower("find", "/mnt/user") == "/mnt/user\n"

    at_tower("/opt/tower/share", "attach")
    assert deploy().changed == []
    goes_out()


def test_without_the_array_nothing_is_taken_for_removed(deploy, trouble, contents, relay) -> None:
    """Else the key would go, and the data would be there again with the array."""
    image = relay.read("config/.image").split()[0]
    with trouble("share detach"):
        before = contents()
        said = deploy("playbooks/uninstall.yml", relay_purge=True, relay_image=image).refusal()
        assert said.startswith("The array of tower is started, but /mnt/user is not mounted")
        assert contents() == before
