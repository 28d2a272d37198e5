"""All that was made is gone, but the data and the key that opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.mark.parametrize(
    "command",
    [
        ("ps", "--all", "--format", "{{.Names}}"),
        ("network", "ls", "--format", "{{.Name}}"),
        ("volume", "ls", "--format", "{{.Name}}"),
        ("images", "--format", "{{.Repository}}"),
    ],
    ids=lambda command: command[0],
)
def test_nothing_is_left_on_the_engine(engine, places, command: tuple[str, ...]) -> None:
    ours = (places["relay_name"], places["sandbox_name"], f"127.0.0.1:{places['sandbox_registry_port']}/")
    assert [name for name in engine(*command).split() if name.startswith(ours)] == []


def test_the_data_stays_and_nothing_else_does() -> None:
    assert [path.name for path in (GROUND / "relay").iterdir()] == ["data"]
    assert (GROUND / "relay/data/relay.db").stat().st_size > 0
    assert not (GROUND / "sandbox").exists()


def test_the_key_stays(relay) -> None:
    assert "vault_key" in relay.kept()
    assert [path.name for path in (GROUND / "secrets").iterdir()] == ["relay.yml"]
