"""Check mode on a host that has never seen the relay has changed nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
# Molecule's own, Ansible's own, the mark that keeps a second run out, and the way to the tower.
NOT_OURS = {"ansible.cfg", "inventory", "molecule.yml", "state.yml", "ansible", "ansible.log", "cp"}
NOT_OURS |= {"running", "bin", "ssh", "virgin.txt"}


def test_the_engine_is_as_it_was(on_the_engine: list[str]) -> None:
    assert on_the_engine == []


def test_there_are_no_new_files() -> None:
    assert {path.name for path in GROUND.iterdir()} - NOT_OURS == set()


def test_it_has_told_what_would_be_made() -> None:
    said = (GROUND / "ansible.log").read_text()
    recap = said.rpartition("PLAY RECAP")[2]
    for count in ("failed", "unreachable"):
        assert set(re.findall(rf"\b{count}=(\d+)", recap)) == {"0"}, recap
    assert "0" not in re.findall(r"\bchanged=(\d+)", recap), f"on each host something would be made:\n{recap}"
    for what in ("/config/relay.toml", "/secrets", "[[mailbox]]"):
        assert what in said
