"""The real playbooks with a docker command that only writes down what it is asked, and no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.programs import SECONDS_TO_RUN

from .rendering import REPOSITORY

NO_SUCH_PLUGIN = (1, "", "docker: unknown command: docker buildx\n\nRun 'docker --help' for more information")
NOT_THERE = (1, "", "no such manifest: ghcr.io/someone/smtp-relay:1.0.0")
ENVIRONMENT = ("DOCKER_HOST", "DOCKER_CONFIG", "BUILDX_CONFIG")
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, sys

here = pathlib.Path(__file__).parent.parent
arguments = sys.argv[1:]
configuration = pathlib.Path(os.environ.get("DOCKER_CONFIG", "/nowhere"))
files = {{path.name: path.read_text() for path in configuration.glob("*") if path.is_file()}}
plugins = sorted(path.name for path in configuration.glob("cli-plugins/*"))
call = dict(arguments=arguments, files=files, plugins=plugins, environment={{
    name: os.environ[name] for name in {ENVIRONMENT!r} if name in os.environ
}})
with open(here / "calls", "a") as calls:
    print(json.dumps(call), file=calls)
for beginning, (status, stdout, stderr) in json.loads((here / "answers").read_text()).items():
    if " ".join(arguments).startswith(beginning):
        sys.stdout.write(stdout)
        sys.stderr.write(stderr)
        sys.exit(status)
"""

Answer = tuple[int, str, str]
"""status, standard output, standard error"""


@dataclass(frozen=True)
class Call:
    """How docker was called, and what it found."""

    arguments: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    """of its configuration"""
    plugins: list[str]

    def __str__(self) -> str:
        return " ".join(self.arguments)


@dataclass(frozen=True)
class Played:
    """How a playbook ended."""

    code: int
    output: str
    calls: list[Call]

    @property
    def text(self) -> str:
        """The output with every run of white space as one blank, so that a sentence can be looked for."""
        return " ".join(self.output.split())

    def called(self, beginning: str) -> Call:
        """The only call that begins so."""
        found = [call for call in self.calls if str(call).startswith(beginning)]
        assert len(found) == 1, f"{beginning}: {[str(call) for call in self.calls]}\n{self.output}"
        return found[0]

    def names(self, *beginnings: str) -> list[str]:
        """Which of these were called, in order."""
        return [name for call in self.calls for name in beginnings if str(call).startswith(name)]


@dataclass
class Controller:
    """A machine that runs Ansible, with a home of its own."""

    directory: Path
    variables: dict[str, Any] = field(
        default_factory=lambda: {
            "image_name": "ghcr.io/someone/smtp-relay",
            "image_registry_username": "someone",
            "image_registry_password": "not-a-real-token",
            "relay_hostname": "smtprelay.example.org",
            "relay_mailboxes": [{"address": "someone@outlook.com", "client_id": "1"}],
        }
    )
    answers: dict[str, Answer] = field(
        default_factory=lambda: {
            "buildx version": (0, "github.com/docker/buildx v0.24.0", ""),
            "version": (0, "linux/amd64\n", ""),
            "manifest inspect": NOT_THERE,
        }
    )
    """what docker says to a call that begins so; without a line it succeeds, and says nothing"""
    environment: dict[str, str] = field(default_factory=dict)
    path: str = os.environ["PATH"]

    def __post_init__(self) -> None:
        program = self.directory / "bin/docker"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)
        self.home.mkdir()
        self.inventory.mkdir()
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self._write(
            "inventory/hosts.yml",
            {"controller": {"hosts": {"localhost": here}}, "relay": {"hosts": {"tower": here}}},
        )

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory"

    def without_docker(self) -> None:
        """Let it have every program but this one."""
        (self.directory / "bin/docker").unlink()
        for directory in reversed(self.path.split(":")):
            for program in Path(directory).glob("*"):
                link = self.directory / "bin" / program.name
                link.unlink(missing_ok=True)
                link.symlink_to(program)
        (self.directory / "bin/docker").unlink(missing_ok=True)
        self.path = ""

    def play(self, playbook: str | Path, *options: str) -> Played:
        """Play it, from the repository and with its configuration."""
        (self.directory / "calls").unlink(missing_ok=True)
        self._write("answers", self.answers)
        self._write("inventory/group_vars/all.json", self.variables)
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                f"--inventory={self.inventory}",
                *options,
                REPOSITORY / playbook,
            ],
            cwd=REPOSITORY,
            env={
                "PATH": f"{self.directory}/bin:{self.path}".rstrip(":"),
                "HOME": str(self.home),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_NOCOLOR": "1",
                **self.environment,
            },
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_RUN,
            check=False,
        )
        calls = self.directory / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return Played(
            done.returncode, done.stdout + done.stderr, [Call(**json.loads(line)) for line in lines]
        )

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        # Longer beginnings come first, so that each answer is to the call that it fits best.
        text = json.dumps(dict(sorted(content.items(), key=lambda item: -len(item[0]))))
        path.write_text(text)
