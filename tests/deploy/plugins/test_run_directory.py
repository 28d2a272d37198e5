"""A directory of a run's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Ansible

WRITE = [
    {
        "copy": {"content": "x", "dest": "{{ lookup('run_directory') }}/{{ item }}", "mode": "0600"},
        "loop": ["one", "two"],
    },
    {"stat": {"path": "{{ lookup('run_directory') }}"}, "register": "directory"},
    {"find": {"paths": "{{ lookup('run_directory') }}", "patterns": "one,two"}, "register": "found"},
    {
        "copy": {
            "content": "{{ [directory.stat.path, directory.stat.mode, found.matched] | to_json }}",
            "dest": "{{ playbook_dir }}/seen",
            "mode": "0600",
        }
    },
]


@pytest.fixture(autouse=True)
def _python(ansible: Ansible) -> None:
    ansible.inventory["localhost"]["ansible_python_interpreter"] = sys.executable


def seen(ansible: Ansible) -> list[Any]:
    """The directory's path, its mode, and how many of the two files written there a later task found."""
    return list(json.loads((ansible.directory / "seen").read_text()))


def test_it_is_one_for_the_whole_run_the_users_alone_and_gone_afterwards(ansible: Ansible) -> None:
    ansible.run(WRITE).succeeded()
    path, mode, found = seen(ansible)
    assert (mode, found) == ("0700", 2)
    assert not Path(path).exists()


def test_two_runs_have_two(ansible: Ansible) -> None:
    paths = set()
    for _ in range(2):
        ansible.run(WRITE).succeeded()
        paths.add(seen(ansible)[0])
    assert len(paths) == 2


def test_it_goes_when_a_run_fails(ansible: Ansible) -> None:
    run = ansible.run([*WRITE, {"fail": {"msg": "over"}, "ignore_errors": False}])
    assert run.status == 2
    assert not Path(seen(ansible)[0]).exists()
