"""The image, built once for a test run, and what is around its containers: a network with the sandbox."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker import DockerClient
from harness.certificates import Authority
from harness.clients import Account
from harness.planted import Planted

from sandbox.client import Control

from .containers import (
    HARDENED,
    ROOT,
    SECONDS_TO_BUILD,
    Container,
    build,
    hand_over,
    network,
    output,
    started,
    unique,
    volume,
)

# What a checkout of somebody who uses it may hold beside the sources.
_STRAYS = (
    ".env",
    ".git/config",
    "certs/privkey.pem",
    "inventories/mine/group_vars/vault.yml",
    "relay_app/.env",
    "relay_app/__pycache__/settings.cpython-311.pyc",
    "sandbox/.archive",
    "secrets/client_secret",
)
_NOT_COPIED = (".git", ".venv", "build", "*_cache", "__pycache__", ".hypothesis", "*.egg-info", "results")


@dataclass(frozen=True)
class Images:
    """What was built, and the base that it was built on."""

    relay: str
    sandbox: str
    base: str
    content: str
    """What nobody may find in them: it lay in the folder that they were built from."""


@dataclass(frozen=True)
class Microsoft:
    """The sandbox in its container. In `network` its name is `sandbox`."""

    network: str
    control: Control
    certs: Path
    """What the relay mounts at /certs: its own certificate, and ca.pem, the sandbox's authority."""
    trust: Path
    """The PEM bundle with which clients trust the relay's certificate."""


@dataclass(frozen=True)
class Relay:
    """A relay in its container, and the settings it was started with."""

    container: Container
    settings: dict[str, str] = field(repr=False)
    trust: Path

    @property
    def account(self) -> Account:
        """The device of USER_EMAIL, at the published port."""
        user, password = self.settings["USER_EMAIL"], self.settings["RELAY_PASSWORD"]
        return Account("127.0.0.1", self.container.port(587), self.trust, user, password)

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.container.port(8025)}"


@pytest.fixture(scope="session")
def planted() -> Planted:
    """The secrets of this run."""
    return Planted()


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine that everything here runs on. It is started, if none answers."""
    subprocess.run([ROOT / "tests" / "engine.sh", "ensure"], check=True, timeout=SECONDS_TO_BUILD)
    client = docker.from_env(timeout=SECONDS_TO_BUILD)
    yield client
    client.close()


@pytest.fixture(scope="session")
def base(engine: DockerClient) -> str:
    """The base image. It is made where it cannot be pulled."""
    said = subprocess.run(
        [ROOT / "tests" / "base_images.sh"],
        check=True,
        timeout=SECONDS_TO_BUILD,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    names = dict(word.split("=", 1) for word in shlex.split(said) if "=" in word)
    return names["PYTHON_IMAGE"]


@pytest.fixture(scope="session")
def images(
    engine: DockerClient, base: str, planted: Planted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Images]:
    """Both images, built from a copy of the checkout with secrets in it."""
    context = tmp_path_factory.mktemp("checkout") / "smtp-relay"
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    content = planted.make("file of the checkout")
    for stray in _STRAYS:
        (context / stray).parent.mkdir(parents=True, exist_ok=True)
        (context / stray).write_text(f"{content}\n")
    name = unique("image")
    built = Images(f"{name}:relay", f"{name}:sandbox", base, content)
    with ExitStack() as remove:
        for target in ("sandbox", "relay"):
            build(context, base, f"{name}:{target}", target, name)
            remove.callback(engine.images.remove, f"{name}:{target}")
        yield built


@pytest.fixture(scope="session")
def microsoft(
    engine: DockerClient, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Microsoft]:
    """The sandbox, for all tests of the run."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    certs = tmp_path_factory.mktemp("certs")
    pair = authority.issue()
    shutil.copy(pair.cert, certs / "fullchain.pem")
    shutil.copy(pair.key, certs / "privkey.pem")
    with (
        network(engine) as net,
        volume(engine) as state,
        started(
            engine,
            images.sandbox,
            **HARDENED,
            network=net,
            networking_config={net: engine.api.create_endpoint_config(aliases=["sandbox"])},
            ports={"8080/tcp": ("127.0.0.1", None)},
            volumes=[f"{state}:/state"],
        ) as container,
    ):
        container.wait_for_log('"control"')
        control = Control(f"http://127.0.0.1:{container.port(8080)}")
        (certs / "ca.pem").write_text(control.world().ca_pem)
        hand_over(engine, certs, images.relay)
        yield Microsoft(net, control, certs, authority.bundle)
        control.close()


@pytest.fixture(scope="session")
def settings(microsoft: Microsoft, planted: Planted) -> dict[str, str]:
    """Settings for a relay that uses the sandbox, as a user of the image gives them."""
    world = microsoft.control.world()
    return {
        "CLIENT_ID": world.client_id,
        "CLIENT_SECRET": planted.add("client secret", world.client_secret),
        "TENANT_ID": world.tenant,
        "USER_EMAIL": world.work,
        "RELAY_FLOW": "client_credentials",
        "RELAY_PASSWORD": planted.make("device password"),
        "RELAY_WEB_PASSWORD": planted.make("console password"),
        "RELAY_HOSTNAME": "relay.test",
        "RELAY_TLS_CERT": "/certs/fullchain.pem",
        "RELAY_TLS_KEY": "/certs/privkey.pem",
        "RELAY_UPSTREAM": "sandbox:587",
        "RELAY_UPSTREAM_CA": "/certs/ca.pem",
        "RELAY_AUTHORITY": "https://sandbox:8443",
    }


@contextmanager
def _running(
    engine: DockerClient,
    images: Images,
    microsoft: Microsoft,
    settings: dict[str, str],
    data: str,
    **options: Any,
) -> Iterator[Relay]:
    with started(
        engine,
        images.relay,
        **HARDENED,
        network=microsoft.network,
        healthcheck={"interval": 1_000_000_000},
        ports={"587/tcp": ("127.0.0.1", None), "8025/tcp": ("127.0.0.1", None)},
        volumes=[f"{data}:/data", f"{microsoft.certs}:/certs:ro"],
        environment=settings,
        **options,
    ) as container:
        yield Relay(container, settings, microsoft.trust)


@pytest.fixture(scope="session")
def relay(
    engine: DockerClient, images: Images, microsoft: Microsoft, settings: dict[str, str]
) -> Iterator[Relay]:
    """One that is healthy, for tests that leave it as they found it."""
    with volume(engine) as data, _running(engine, images, microsoft, settings, data) as relay:
        relay.container.wait_healthy()
        yield relay


@pytest.fixture
def data(engine: DockerClient) -> Iterator[str]:
    """A volume for `start`'s relays."""
    with volume(engine) as name:
        yield name


@pytest.fixture
def start(
    engine: DockerClient, images: Images, microsoft: Microsoft, settings: dict[str, str], data: str
) -> Iterator[Callable[..., Relay]]:
    """Start a relay, hardened, with some settings changed, on the volume `data`."""
    with ExitStack() as remove_all:

        def start(init: bool = False, **changes: str) -> Relay:
            return remove_all.enter_context(
                _running(engine, images, microsoft, {**settings, **changes}, data, init=init)
            )

        yield start


@pytest.fixture
def run_python(engine: DockerClient, images: Images) -> Callable[..., str]:
    """Run a program in the image's Python, as hardened as the relay, and return what it prints."""

    def run(program: str, *arguments: str) -> str:
        command = ("-c", program, *arguments)
        return output(engine, images.relay, *command, **HARDENED, network_mode="none", entrypoint="python")

    return run
