"""All that was made is gone from the tower, but the data and the key that opens it. Others' things stay."""

from __future__ import annotations

import os
from pathlib import Path

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_nothing_is_left_in_docker(on_the_engine: list[str]) -> None:
    assert on_the_engine == []


def test_unraid_does_not_know_it_any_more(at_tower) -> None:
    assert at_tower("ls", "/boot/config/plugins/dockerMan/templates-user") == "my-mariadb.xml\n"
    assert at_tower("cat", "/var/lib/docker/unraid-autostart") == "mariadb\ntower 10\n"


def test_the_data_stays_and_nothing_else_does(at_tower, relay) -> None:
    assert at_tower("ls", "-A", str(relay.directory)) == "data\n"
    assert int(at_tower("stat", "-c", "%s", f"{relay.directory}/data/relay.db")) > 0


def test_the_key_that_opens_it_stays_on_this_machine() -> None:
    assert [path.name for path in (GROUND / "secrets").iterdir()] == ["relay.yml"]
