"""A task's name says what is ensured, and finds one task: docs/deploying.md, "How are tasks named?"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .rendering import REPOSITORY

PLACES = [
    *sorted((REPOSITORY / "roles").iterdir()),
    REPOSITORY / "playbooks",
    *(REPOSITORY / "molecule").iterdir(),
]
LISTS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
STEP = ("block", "hosts", "import_", "include_")
"""What has one of these is a step of others: its name is a heading."""
BEGINNINGS = ("Ensure ", "Get ", "Set ", "Report ")


def named(items: Any) -> Iterator[dict[str, Any]]:
    """Plays, blocks and tasks, of a playbook or of a file of tasks, also those inside others."""
    for item in items:
        yield item
        for part in LISTS:
            yield from named(item.get(part, []))


def tasks(place: Path) -> Iterator[dict[str, Any]]:
    files = sorted(
        file for part in ("tasks", "handlers", "steps", ".") for file in (place / part).glob("*.yml")
    )
    for file in files:
        content = yaml.safe_load(file.read_text("utf-8"))
        yield from named(content if isinstance(content, list) else [])


def is_step(task: dict[str, Any]) -> bool:
    return any(key.removeprefix("ansible.builtin.").startswith(STEP) for key in task)


@pytest.mark.parametrize("place", PLACES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_name_says_what_is_ensured(place: Path) -> None:
    found = [
        task["name"] for task in tasks(place) if not is_step(task) and task.get("failed_when") is not False
    ]
    assert [name for name in found if not name.startswith(BEGINNINGS)] == []


@pytest.mark.parametrize("place", PLACES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_name_has_a_prefix(place: Path) -> None:
    assert [task["name"] for task in tasks(place) if " | " in task["name"]] == []


@pytest.mark.parametrize("role", sorted((REPOSITORY / "roles").iterdir()), ids=lambda path: path.name)
def test_a_name_finds_one_task(role: Path) -> None:
    count = Counter(task["name"] for task in tasks(role) if not is_step(task))
    assert [name for name, times in count.items() if times > 1] == []


def test_all_tasks_are_looked_at() -> None:
    """Else the tests above would hold of nothing."""
    assert sum(1 for place in PLACES for task in tasks(place) if not is_step(task)) > 100
