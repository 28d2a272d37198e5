"""The relay's image and containers, through the docker command."""

import gzip
import json
import os
import secrets
import shlex
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from bench.server import ServerError, free_port

_ROOT = Path(__file__).parents[1]
_LABEL = "smtp-relay.bench"
_HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=99:100",
)
_SECONDS = 900.0
_GREETING_SECONDS = 60.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and the one that it was built on."""

    name: str
    base: str

    def layers(self) -> list[int]:
        """The size of each layer above the base, compressed as a registry keeps it, in octets."""
        below, ours = (_layers(name) for name in (self.base, self.name))
        if ours[: len(below)] != below:
            raise ServerError(f"{self.name} is not built on {self.base}.")
        with tempfile.TemporaryFile() as saved:
            _docker("save", self.name, stdout=saved)
            saved.seek(0)
            with tarfile.open(fileobj=saved) as archive:
                listed = archive.extractfile("manifest.json")
                assert listed is not None
                files = json.load(listed)[0]["Layers"][len(below) :]
                return [_compressed(archive, file) for file in files]


def bases() -> dict[str, str]:
    """The images to build on, as variables of the environment, with an engine that has them."""
    _run([str(_ROOT / "tests" / "engine.sh"), "ensure"])
    exports = shlex.split(_run([str(_ROOT / "tests" / "base_images.sh")]))
    return dict(word.split("=", 1) for word in exports if "=" in word)


@contextmanager
def image() -> Iterator[Image]:
    """The relay's image, built from this checkout, until the end of the block."""
    base = bases()["PYTHON_IMAGE"]
    name = f"smtp-relay-bench-{secrets.token_hex(4)}"
    _docker(
        *("build", "--quiet", "--target=relay", f"--tag={name}", f"--label={_LABEL}"),
        *(f"--build-arg=PYTHON_IMAGE={base}", str(_ROOT)),
    )
    try:
        yield Image(name, base)
    finally:
        _docker("rmi", name)


@contextmanager
def volume() -> Iterator[str]:
    """A volume, until the end of the block."""
    name = f"smtp-relay-bench-{secrets.token_hex(4)}"
    _docker("volume", "create", f"--label={_LABEL}", name)
    try:
        yield name
    finally:
        _docker("volume", "rm", name)


@contextmanager
def relay(image: Image, data: str, settings: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """A relay in its container: its name, and the seconds from `docker run` to its greeting."""
    name = f"smtp-relay-bench-{secrets.token_hex(4)}"
    port = free_port()
    command = ["docker", "run", "--detach", f"--name={name}", f"--label={_LABEL}", *_HARDENED]
    command += [f"--volume={data}:/data", f"--publish=127.0.0.1:{port}:587"]
    command += [f"--env={variable}" for variable in settings]
    try:
        started = perf_counter()
        _run([*command, image.name], settings)
        _wait_for_greeting(name, port, started + _GREETING_SECONDS)
        yield name, perf_counter() - started
    finally:
        _docker("rm", "--force", name)


def seconds_for_nothing(image: Image) -> float:
    """From `docker run` of a Python that does nothing, on the same base and as hardened, to its end."""
    name = f"smtp-relay-bench-{secrets.token_hex(4)}"
    try:
        started = perf_counter()
        _docker("run", f"--name={name}", f"--label={_LABEL}", *_HARDENED, image.base, "python", "-c", "pass")
        return perf_counter() - started
    finally:
        _docker("rm", "--force", name)


def cpu_of_health_check(container: str, times: int) -> float:
    """The seconds of CPU time that one health check takes within the container."""
    program = (
        "import resource, subprocess\n"
        f"for _ in range({times}):\n"
        "    subprocess.run(['smtp-relay', 'health'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        f"print((used.ru_utime + used.ru_stime) / {times})\n"
    )
    return float(_docker("exec", container, "python", "-c", program))


def _wait_for_greeting(name: str, port: int, deadline: float) -> None:
    # Docker's proxy accepts before the relay does, and then closes the connection.
    while perf_counter() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_GREETING_SECONDS) as connection:
                if connection.recv(512).startswith(b"220 "):
                    return
        except OSError:
            pass
        if _docker("inspect", "--format={{.State.Running}}", name).strip() != "true":
            break
        sleep(_POLL_SECONDS)
    raise ServerError(f"The relay in a container did not greet. It wrote:\n{_docker('logs', name)}")


def _layers(name: str) -> list[str]:
    return list(json.loads(_docker("inspect", name))[0]["RootFS"]["Layers"])


def _compressed(archive: tarfile.TarFile, file: str) -> int:
    layer = archive.extractfile(file)
    assert layer is not None
    return len(gzip.compress(layer.read(), compresslevel=6))


def _docker(*arguments: str, stdout: object = subprocess.PIPE) -> str:
    return _run(["docker", *arguments], stdout=stdout)


def _run(
    command: list[str], settings: Mapping[str, str] | None = None, stdout: object = subprocess.PIPE
) -> str:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(settings or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,  # type: ignore[call-overload]
            stderr=subprocess.PIPE,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise ServerError(f"{' '.join(command[:3])} failed: {done.stderr.decode(errors='replace')}")
    return (done.stdout or b"").decode()
