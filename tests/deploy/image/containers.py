"""Images, containers and networks, through the docker command."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import programs

ROOT = Path(__file__).parents[3]
LABEL = "smtp-relay.test-run"
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=99:100",
)
SECONDS_TO_BUILD = 900


def docker(*arguments: str, timeout: float = programs.SECONDS_TO_RUN) -> str:
    """Run a docker command that must succeed; return what it wrote to its standard output."""
    done = subprocess.run(
        [programs.find("docker"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def unique(what: str) -> str:
    """A name that no other run has."""
    return f"smtp-relay-test-{what}-{secrets.token_hex(4)}"


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows of an image or a container."""
    return dict(json.loads(docker("inspect", name))[0])


def build(context: Path, base: str, tag: str, target: str, run: str) -> None:
    """Build one of the Dockerfile's images."""
    docker(
        *("build", "--quiet", "--target", target, "--tag", tag, "--label", f"{LABEL}={run}"),
        *("--build-arg", f"PYTHON_IMAGE={base}"),
        *("--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=c0ffee"),
        *("--build-arg", "SOURCE=https://example.org/smtp-relay"),
        str(context),
        timeout=SECONDS_TO_BUILD,
    )


def hand_over(directory: Path, image: str) -> None:
    """Give the files of a directory to the relay's user, readable for nobody else: what its owner does, too.

    A container does it: it takes root, which a test need not be.
    """
    docker(
        *("run", "--rm", "--user=0", "--network=none", f"--volume={directory}:/mnt"),
        *("--entrypoint=sh", image, "-c", "chmod 755 /mnt && chown 99:100 /mnt/* && chmod 0400 /mnt/*"),
    )


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran."""

    name: str

    @property
    def state(self) -> dict[str, Any]:
        return dict(inspect(self.name)["State"])

    @property
    def log(self) -> str:
        """What it has written, on either stream."""
        return programs.run("docker", "logs", self.name).output

    def port(self, inside: int) -> int:
        """The port of 127.0.0.1 that this one is published at."""
        return int(docker("port", self.name, f"{inside}/tcp").split()[0].rpartition(":")[2])

    def wait_healthy(self) -> None:
        """Wait until its own check says so."""

        def settled() -> bool:
            state = self.state
            assert state["Running"], f"It has ended with {state['ExitCode']}:\n{self.log}"
            return bool(state["Health"]["Status"] == "healthy")

        programs.wait_until(settled, f"{self.name} is healthy", timeout=60)

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
        return int(docker("wait", self.name))

    def stop(self) -> int:
        """End it as `docker stop` does; return its exit status."""
        docker("stop", "--time=60", self.name)
        return int(self.state["ExitCode"])

    def run(self, *command: str) -> str:
        """Run a command in it that must succeed."""
        return docker("exec", self.name, *command)


@contextmanager
def started(image: str, *options: str, settings: Mapping[str, str]) -> Iterator[Container]:
    """A container, until the end of the block. Its settings are on no command line: they may be secret."""
    name = unique("container")
    try:
        done = subprocess.run(
            [
                *(programs.find("docker"), "run", "--detach", f"--name={name}", f"--label={LABEL}"),
                *(f"--env={variable}" for variable in settings),
                *options,
                image,
            ],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=programs.SECONDS_TO_RUN,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield Container(name)
    finally:
        programs.run("docker", "rm", "--force", "--volumes", name)


@contextmanager
def network() -> Iterator[str]:
    """A bridge network of its own, until the end of the block."""
    name = unique("network")
    docker("network", "create", f"--label={LABEL}", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


@contextmanager
def volume() -> Iterator[str]:
    """A volume, until the end of the block."""
    name = unique("volume")
    docker("volume", "create", f"--label={LABEL}", name)
    try:
        yield name
    finally:
        docker("volume", "rm", name)
