"""The tower is as it was before the first run."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


def test_nothing_is_left_on_the_tower(at_tower) -> None:
    find = yaml.safe_load((SCENARIO / "vars/tower.yml").read_text())["tower_list"]
    before, after = (GROUND / "virgin.txt").read_text(), at_tower(*find)
    assert set(after.splitlines()) == set(before.splitlines())


def test_nothing_is_left_on_its_array(at_tower) -> None:
    found = at_tower("find", "/mnt/user", "/boot", "-mindepth", "1", "-newer", "/run/sshd.pid").splitlines()
    assert [path for path in found if at_tower("stat", "-c", "%F", path) != "directory\n"] == []
    assert at_tower("ls", "-A", "/mnt/user/appdata") == ""


def test_no_secret_is_left_on_this_machine() -> None:
    assert list((GROUND / "secrets").iterdir()) == []
