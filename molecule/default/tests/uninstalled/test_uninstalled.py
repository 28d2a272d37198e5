"""All that was made is gone, but the data and the key that opens it."""

from __future__ import annotations

import os
from pathlib import Path

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_nothing_is_left_on_the_engine(on_the_engine: list[str]) -> None:
    assert on_the_engine == []


def test_the_data_stays_and_nothing_else_does() -> None:
    assert [path.name for path in (GROUND / "relay").iterdir()] == ["data"]
    assert (GROUND / "relay/data/relay.db").stat().st_size > 0
    assert not (GROUND / "sandbox").exists()


def test_the_key_stays(relay) -> None:
    assert "vault_key" in relay.kept()
    assert [path.name for path in (GROUND / "secrets").iterdir()] == ["relay.yml"]
