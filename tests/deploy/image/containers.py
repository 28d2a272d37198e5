"""Images, containers and networks, through the engine's API."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.models.containers import Container as Found
from harness import programs

ROOT = Path(__file__).parents[3]
LABEL = "smtp-relay.test-run"
HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "99:100",
}
SECONDS_TO_BUILD = 900
KILLED = 128 + signal.SIGKILL
"""The exit status of what was killed."""


def unique(what: str) -> str:
    """A name that no other run has."""
    return f"smtp-relay-test-{what}-{secrets.token_hex(4)}"


def build(context: Path, base: str, tag: str, target: str, run: str) -> None:
    """Build one of the Dockerfile's images with the docker command, which reads .dockerignore."""
    done = subprocess.run(
        [
            *(programs.find("docker"), "build", "--quiet", "--target", target, "--tag", tag),
            *("--label", f"{LABEL}={run}", "--build-arg", f"PYTHON_IMAGE={base}"),
            *("--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=c0ffee"),
            *("--build-arg", "SOURCE=https://example.org/smtp-relay"),
            str(context),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_TO_BUILD,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def output(engine: DockerClient, image: str, *command: str, **options: Any) -> str:
    """Run a command that must succeed in a container of its own; return what it wrote."""
    return str(engine.containers.run(image, [*command], remove=True, **options).decode())


def hand_over(engine: DockerClient, directory: Path, image: str) -> None:
    """Give the files of a directory to the relay's user, readable for nobody else: what its owner does, too.

    A container does it: it takes root, which a test need not be.
    """
    script = "chmod 755 /mnt && chown 99:100 /mnt/* && chmod 0400 /mnt/*"
    mounted = [f"{directory}:/mnt"]
    output(engine, image, "-c", script, entrypoint="sh", user="0", network_mode="none", volumes=mounted)


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran: the one that has the name at the moment."""

    engine: DockerClient
    name: str

    @property
    def found(self) -> Found:
        """What the engine knows of it now."""
        return self.engine.containers.get(self.name)

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.found.attrs["State"])

    @property
    def log(self) -> str:
        """What it has written, on either stream."""
        return str(self.found.logs().decode())

    def port(self, inside: int) -> int:
        """The port of 127.0.0.1 that this one is published at."""
        return int(self.found.ports[f"{inside}/tcp"][0]["HostPort"])

    def wait_healthy(self) -> None:
        """Wait until its own check says so."""

        def settled() -> bool:
            state = self.state
            assert state["Running"], f"It has ended with {state['ExitCode']}:\n{self.log}"
            return bool(state["Health"]["Status"] == "healthy")

        programs.wait_until(settled, f"{self.name} is healthy")

    def wait_for_log(self, pattern: str) -> str:
        """Wait for a line of its log, and return it."""

        def line() -> str | None:
            found = re.search(f".*{pattern}.*", self.log)
            return found and found[0]

        programs.wait_until(
            lambda: line() is not None or not self.state["Running"], f"{self.name} logs {pattern}"
        )
        found = line()
        assert found is not None, f"It ended without {pattern}:\n{self.log}"
        return found

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit status."""
        return int(self.found.wait()["StatusCode"])

    def stop(self) -> int:
        """End it as `docker stop` does; return its exit status.

        It is killed in the end, but before the relay itself would lose patience with mail that is on its way.
        """
        self.found.stop(timeout=30)
        return int(self.state["ExitCode"])

    def run(self, *command: str) -> str:
        """Run a command in it that must succeed."""
        status, said = self.found.exec_run([*command])
        assert status == 0, said.decode()
        return str(said.decode())


@contextmanager
def started(engine: DockerClient, image: str, **options: Any) -> Iterator[Container]:
    """A container, until the end of the block."""
    container = engine.containers.create(image, name=unique("container"), labels={LABEL: ""}, **options)
    try:
        container.start()
        yield Container(engine, container.name)
    finally:
        container.remove(force=True, v=True)


@contextmanager
def network(engine: DockerClient) -> Iterator[str]:
    """A bridge network of its own, until the end of the block."""
    made = engine.networks.create(unique("network"), labels={LABEL: ""})
    try:
        yield made.name
    finally:
        made.remove()


@contextmanager
def volume(engine: DockerClient) -> Iterator[str]:
    """A volume, until the end of the block."""
    made = engine.volumes.create(unique("volume"), labels={LABEL: ""})
    try:
        yield made.name
    finally:
        made.remove()
