"""The tower over ssh, as Ansible reaches it, and what can go wrong with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import testinfra
from testinfra.host import Host

NAME = "smtp-relay-test-tower"
PORT = os.environ.get("TOWER_PORT", "22022")

# In opt/ of the tower: what breaks, and what puts it right again.
REMEDIES = {
    "array stop": "array start",
    "docker stop": "docker start",
    "docker disable": "docker start",
    "share detach": "share attach",
    "share small": "share attach",
    "hostkey change": "hostkey restore",
    "machine riscv64": "machine real",
}

Trouble = Callable[[str], AbstractContextManager[None]]


def _on_the_tower(words: str) -> None:
    script, *arguments = words.split()
    subprocess.run(["docker", "exec", NAME, f"/opt/tower/{script}", *arguments], check=True)


@pytest.fixture(scope="session")
def tower() -> Host:
    """The tower as a client of its sshd sees it."""
    return testinfra.get_host(f"ssh://root@tower:{PORT}", controlpersist=0)


@pytest.fixture
def trouble() -> Trouble:
    """Have something wrong for a while: `with trouble("array stop"):`"""

    @contextmanager
    def while_(words: str) -> Iterator[None]:
        _on_the_tower(words)
        try:
            yield
        finally:
            _on_the_tower(REMEDIES[words])

    return while_
