"""Nothing is left at all."""

from __future__ import annotations

import os
from pathlib import Path

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_no_data_and_no_secret_is_left() -> None:
    assert not (GROUND / "relay").exists()
    assert list(GROUND.glob("secrets/*")) == []
    assert not (GROUND / "sandbox").exists()
