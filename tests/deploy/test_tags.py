"""Each step runs alone, by a tag of its own that Ansible lists and docs/deploying.md explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .rendering import REPOSITORY

PLAYBOOKS = [
    "site.yml",
    *sorted(f"playbooks/{file.name}" for file in (REPOSITORY / "playbooks").glob("*.yml")),
]

Task = tuple[str, set[str]]
"""its name, with its role before it, and its tags"""


@cache
def listed() -> dict[str, list[Task]]:
    """The tasks of each playbook as Ansible lists them, for which it needs no inventory."""
    program = Path(sys.executable).with_name("ansible-playbook")
    said = subprocess.run(
        [program, "--list-tasks", *PLAYBOOKS],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    _, *parts = re.split(r"^playbook: (.+)$", said, flags=re.MULTILINE)
    tasks = re.compile(r"^ {6}(.+?)\s+TAGS: \[(.*)\]$", re.MULTILINE)
    return {
        playbook: [(name, {*words.split(", ")} - {""}) for name, words in tasks.findall(text)]
        for playbook, text in zip(parts[::2], parts[1::2], strict=True)
    }


def explained() -> dict[str, set[str]]:
    """The tags of each playbook, as the page's table has them."""
    found: dict[str, set[str]] = {playbook: set() for playbook in PLAYBOOKS}
    rows = re.findall(
        r"^\| (`\w+`.*) \| .+ \| (.+) \|$", (REPOSITORY / "docs/deploying.md").read_text(), re.MULTILINE
    )
    assert rows
    for tags, places in rows:
        named = {name for name in PLAYBOOKS if f"`{name.removeprefix('playbooks/')}`" in places}
        for playbook in set(PLAYBOOKS) - named if places.startswith("all") else named:
            found[playbook] |= set(re.findall(r"`(\w+)`", tags))
    return found


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_each_tag_is_listed_and_explained(playbook: str) -> None:
    tags = {tag for _, words in listed()[playbook] for tag in words} - {"always"}
    assert tags == explained()[playbook]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_each_task_has_a_tag(playbook: str) -> None:
    assert [name for name, words in listed()[playbook] if not words] == []
