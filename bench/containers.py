"""The relay's image and containers, on this machine's engine."""

import gzip
import json
import secrets
import shlex
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import docker
from docker import DockerClient
from docker.models.containers import Container

from bench.server import ServerError, free_port

_ROOT = Path(__file__).parents[1]
_MADE: dict[str, Any] = {"labels": {"smtp-relay.bench": ""}}
_HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "99:100",
}
_SECONDS = 900
_GREETING_SECONDS = 60.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Image:
    """An image, the one that it was built on, and the engine that has both."""

    engine: DockerClient
    name: str
    base: str

    def layers(self) -> list[int]:
        """The size of each layer above the base, compressed as a registry keeps it, in octets."""
        image, base = self.engine.images.get(self.name), self.engine.images.get(self.base)
        below = base.attrs["RootFS"]["Layers"]
        if image.attrs["RootFS"]["Layers"][: len(below)] != below:
            raise ServerError(f"{self.name} is not built on {self.base}.")
        with tempfile.TemporaryFile() as saved:
            saved.writelines(image.save())
            saved.seek(0)
            with tarfile.open(fileobj=saved) as archive:
                listed = archive.extractfile("manifest.json")
                assert listed is not None
                files = json.load(listed)[0]["Layers"][len(below) :]
                return [_compressed(archive, file) for file in files]


def bases() -> dict[str, str]:
    """The images to build on, as variables of the environment, with an engine that has them."""
    _run("engine.sh", "ensure")
    return dict(word.split("=", 1) for word in shlex.split(_run("base_images.sh")) if "=" in word)


@contextmanager
def image() -> Iterator[Image]:
    """The relay's image, built from this checkout, until the end of the block."""
    base = bases()["PYTHON_IMAGE"]
    name = _unique()
    with closing(docker.from_env(timeout=_SECONDS)) as engine:
        engine.images.build(
            path=str(_ROOT), target="relay", tag=name, buildargs={"PYTHON_IMAGE": base}, rm=True, **_MADE
        )
        try:
            yield Image(engine, name, base)
        finally:
            engine.images.remove(name)


@contextmanager
def volume(image: Image) -> Iterator[str]:
    """A volume, until the end of the block."""
    made = image.engine.volumes.create(_unique(), **_MADE)
    try:
        yield made.name
    finally:
        made.remove()


@contextmanager
def relay(image: Image, data: str, settings: Mapping[str, str]) -> Iterator[tuple[Container, float]]:
    """A relay in its container, and the seconds from there being none to its greeting."""
    port = free_port()
    started = perf_counter()
    container = image.engine.containers.create(
        image.name,
        name=_unique(),
        volumes=[f"{data}:/data"],
        ports={"587/tcp": ("127.0.0.1", port)},
        environment=dict(settings),
        **_MADE,
        **_HARDENED,
    )
    try:
        container.start()
        _wait_for_greeting(container, port, started + _GREETING_SECONDS)
        yield container, perf_counter() - started
    finally:
        container.remove(force=True)


def seconds_for_nothing(image: Image) -> float:
    """The same to the end of a Python that does nothing, on the same base and as hardened."""
    started = perf_counter()
    command = ["python", "-c", "pass"]
    container = image.engine.containers.create(image.base, command, name=_unique(), **_MADE, **_HARDENED)
    try:
        container.start()
        container.wait()
        return perf_counter() - started
    finally:
        container.remove(force=True)


def cpu_of_health_check(container: Container, times: int) -> float:
    """The seconds of CPU time that one health check takes within the container."""
    program = (
        "import resource, subprocess\n"
        f"for _ in range({times}):\n"
        "    subprocess.run(['smtp-relay', 'health'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        f"print((used.ru_utime + used.ru_stime) / {times})\n"
    )
    status, said = container.exec_run(["python", "-c", program])
    if status != 0:
        raise ServerError(f"The health check failed: {said.decode(errors='replace')}")
    return float(said)


def _unique() -> str:
    return f"smtp-relay-bench-{secrets.token_hex(4)}"


def _wait_for_greeting(container: Container, port: int, deadline: float) -> None:
    # Docker's proxy accepts before the relay does, and then closes the connection.
    while perf_counter() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_GREETING_SECONDS) as connection:
                if connection.recv(512).startswith(b"220 "):
                    return
        except OSError:
            pass
        container.reload()
        if container.status != "running":
            break
        sleep(_POLL_SECONDS)
    log = container.logs().decode(errors="replace")
    raise ServerError(f"The relay in a container did not greet. It wrote:\n{log}")


def _compressed(archive: tarfile.TarFile, file: str) -> int:
    layer = archive.extractfile(file)
    assert layer is not None
    return len(gzip.compress(layer.read(), compresslevel=6))


def _run(script: str, *arguments: str) -> str:
    command = [str(_ROOT / "tests" / script), *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{script}: {error}") from error
    if done.returncode != 0:
        raise ServerError(f"{script} failed: {done.stderr}")
    return done.stdout
