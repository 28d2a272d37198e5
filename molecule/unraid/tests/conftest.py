"""The tower over ssh, as Ansible reaches it, and what can go wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
NAME = "smtp-relay-test-tower"
PORT = os.environ.get("TOWER_PORT", "22022")

# In opt/ of the tower: what breaks, and what puts it right again.
REMEDIES = {
    "array stop": "array start",
    "docker stop": "docker start",
    "docker disable": "docker start",
    "docker crash": "docker start",
    "docker unmount": "docker start",
    "share detach": "share attach",
    "share small": "share attach",
    "hostkey change": "hostkey restore",
    "machine riscv64": "machine real",
    "system other": "system unraid",
}

Trouble = Callable[[str], AbstractContextManager[None]]
Contents = Callable[[], str]


def on_the_tower(*command: str) -> str:
    """Run a command there, past ssh: it works whatever is broken. Returns its output."""
    done = subprocess.run(["docker", "exec", NAME, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def tower() -> Host:
    """The tower as a client of its sshd sees it."""
    return testinfra.get_host(f"ssh://root@tower:{PORT}", controlpersist=0)


@pytest.fixture
def trouble() -> Trouble:
    """Have something wrong for a while: `with trouble("array stop"):`"""

    @contextmanager
    def while_(words: str) -> Iterator[None]:
        script, *arguments = words.split()
        on_the_tower(f"/opt/tower/{script}", *arguments)
        try:
            yield
        finally:
            script, *arguments = REMEDIES[words].split()
            on_the_tower(f"/opt/tower/{script}", *arguments)

    return while_


@pytest.fixture(scope="session")
def places() -> dict[str, Any]:
    """Names and ports of this scenario, as its variable files have them."""
    files = (PROJECT / "molecule/vars/apart.yml", SCENARIO / "vars/places.yml")
    found: dict[str, Any] = {}
    for file in files:
        found |= yaml.safe_load(file.read_text())
    return found


@pytest.fixture(scope="session")
def contents(places: dict[str, Any]) -> Contents:
    """All that a run could change on the tower: its files but for the relay's data, and what its engine has of ours."""
    relay, network = places["relay_name"], places["relay_network"]
    data = f"/mnt/user/appdata/{relay}/data"
    find = ["find", "/boot", "/mnt", "/etc", "/root", "/tmp", "/var", "/usr/local", "/opt"]
    find += ["-path", data, "-prune", "-o", "-printf", r"%p %M %U:%G %s %T@ %l\n"]

    def list_() -> str:
        containers = subprocess.run(
            ["docker", "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        ours = [line for line in containers.splitlines() if f" {relay} " in line]
        there = subprocess.run(["docker", "network", "inspect", network], capture_output=True, check=False)
        return "\n".join([*sorted(on_the_tower(*find).splitlines()), *ours, f"{network}: {there.returncode}"])

    return list_


@pytest.fixture(scope="session")
def inspected() -> Callable[[str], dict[str, Any]]:
    """`docker inspect` of a container, through the tower."""

    def look(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(on_the_tower("docker", "inspect", "--type", "container", name))[0]
        return found

    return look
