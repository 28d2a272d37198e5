"""The tower is as it was before the first run."""

from __future__ import annotations

import os
from pathlib import Path

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_nothing_is_left_on_the_tower(listing, virgin) -> None:
    assert listing() == virgin


def test_nothing_is_left_on_its_array(at_tower) -> None:
    assert (
        at_tower("find", "/mnt/user/appdata", "/mnt/user/system") == "/mnt/user/appdata\n/mnt/user/system\n"
    )


def test_no_secret_is_left_on_this_machine() -> None:
    assert list((GROUND / "secrets").iterdir()) == []
