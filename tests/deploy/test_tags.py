"""Each step of a role runs alone, by a tag of its own: ansible-playbook site.yml --tags image_build"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .rendering import REPOSITORY

STEPS = {
    "site.yml": {
        "preflight": {"preflight_check", "preflight_sandbox"},
        "image": {"image_login", "image_build", "image_push"},
    },
    "playbooks/uninstall.yml": {"preflight": {"preflight_check"}, "image": {"image_uninstall"}},
}


@cache
def tags(playbook: str) -> list[tuple[str, str, set[str]]]:
    """The role (none where one is included), the name and the tags of each task, as Ansible lists them."""
    program = Path(sys.executable).with_name("ansible-playbook")
    listed = subprocess.run(
        [program, "--list-tasks", "--inventory=inventories/sandbox", playbook],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    ).stdout
    found = re.findall(r"^ +(?:(\w+) : )?(.+?)\s+TAGS: \[(.*)\]$", listed, re.MULTILINE)
    return [(role, name, {*words.split(", ")} - {""}) for role, name, words in found]


@pytest.mark.parametrize(
    ("playbook", "role"), [(playbook, role) for playbook, roles in STEPS.items() for role in roles]
)
def test_each_step_has_its_tag(playbook: str, role: str) -> None:
    steps = STEPS[playbook][role]
    listed = tags(playbook)
    assert {word for _, _, words in listed for word in words if word.startswith(f"{role}_")} == steps
    ours = [(name, words) for owner, name, words in listed if owner == role]
    assert [name for name, words in ours if not words & {*steps, "always"}] == []
