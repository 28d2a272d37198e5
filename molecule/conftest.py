"""What the tests of all scenarios work with: the engine from outside, and Ansible as the scenario runs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])

Inspect = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Played:
    """How a playbook ended, and all that was printed."""

    code: int
    output: str

    @property
    def text(self) -> str:
        """The output with every run of white space as one blank, so that a sentence can be looked for."""
        return " ".join(self.output.split())


Play = Callable[..., Played]


@pytest.fixture(scope="session")
def inspect() -> Inspect:
    """`docker inspect` of a container, image, network or volume."""

    def look(name: str) -> dict[str, Any]:
        shown = subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(shown.stdout)[0]
        return found

    return look


@pytest.fixture(scope="session")
def play() -> Play:
    """Run a playbook as the scenario does: play("playbooks/preflight.yml", relay_port="25").

    Keyword arguments are extra variables, other arguments go to ansible-playbook. The outcome is for the test
    to judge.
    """
    configuration = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
    usual = configuration["ansible"]["executor"]["args"]["ansible_playbook"]

    def run(playbook: str, *arguments: str, timeout: float = 300, **variables: object) -> Played:
        done = subprocess.run(
            [
                *("ansible-playbook", f"--inventory={EPHEMERAL}/inventory", *usual),
                *(f"--extra-vars={json.dumps(variables)}", *arguments, str(PROJECT / playbook)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Played(done.returncode, done.stdout)

    return run
