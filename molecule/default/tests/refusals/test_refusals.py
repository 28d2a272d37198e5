"""What cannot work is refused before anything is changed, with what to do about it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

GROUND = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
FOREIGN = "molecule-foreign"
ELSEWHERE = "127.0.0.1:9/sandbox/smtp-relay"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port where a program listens."""
    with socket.create_server(("127.0.0.1", 0)) as program:
        yield int(program.getsockname()[1])


@pytest.fixture(scope="module")
def foreign(relay, engine) -> Iterator[str]:
    """A container that is not ours; its identifier."""
    container = engine.containers.create(relay.image, entrypoint="true", name=FOREIGN)
    yield str(container.id)
    container.remove(force=True)


@pytest.fixture(scope="module")
def before(relay) -> Any:
    return relay.started


@pytest.fixture(scope="module")
def refused(play, places, before, port, foreign) -> dict[str, Any]:
    """All of them at once, each as if it were alone."""
    control = f"127.0.0.1:{places['sandbox_control_port']}"
    runs: dict[str, tuple[str, dict[str, object]]] = {
        "unknown variable": ("playbooks/relay.yml", {"relay_prot": "1587"}),
        "wrong token": ("playbooks/image.yml", {"image_registry_password": "wrong"}),
        "no login": ("playbooks/image.yml", {"image_registry_username": ""}),
        "registry down": ("playbooks/image.yml", {"image_name": ELSEWHERE}),
        "port of a container": ("playbooks/relay.yml", {"relay_console_port": control}),
        "port of a program": ("playbooks/relay.yml", {"relay_port": f"127.0.0.1:{port}"}),
        "foreign container": ("playbooks/relay.yml", {"relay_name": FOREIGN}),
        "foreign container, uninstall": ("playbooks/uninstall.yml", {"relay_name": FOREIGN}),
    }

    def run(name: str) -> Any:
        playbook, variables = runs[name]
        lock = f"{GROUND}/running-{list(runs).index(name)}"
        return play(playbook, preflight_lock_file=lock, **variables)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(run, runs), strict=True))


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "unknown variable",
            [
                "The inventory has variables that nothing reads: relay_prot: there is no such variable.",
                "Did you mean relay_port?",
            ],
        ),
        (
            "wrong token",
            [
                "It does not accept the login sandbox.",
                "with the scope write:packages (https://github.com/settings/tokens;",
            ],
        ),
        (
            "no login",
            [
                "It wants a login, and image_registry_username is empty.",
                "with the scope write:packages (https://github.com/settings/tokens;",
            ],
        ),
        (
            "registry down",
            [
                "The registry 127.0.0.1:9 does not do what it is asked for:",
                f"It cannot be reached. See that image_name ({ELSEWHERE}) is right",
            ],
        ),
        (
            "port of a container",
            [
                "Port 28080 of engine is in use by the container molecule-sandbox-microsoft.",
                "set relay_console_port to another port",
            ],
        ),
        ("port of a program", ["is in use by another program", "set relay_port to another port"]),
        (
            "foreign container",
            [
                f"engine has a container {FOREIGN} (image",
                "that these playbooks did not make.",
                f"If it may go: docker rm -f {FOREIGN}.",
            ],
        ),
        (
            "foreign container, uninstall",
            [f"The container {FOREIGN} on engine was not made by these playbooks, so it stays."],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_refused_with_what_to_do(refused, name: str, sentences: list[str]) -> None:
    played = refused[name]
    assert played.code == 2, played.tail
    for sentence in sentences:
        assert sentence in played.text, played.tail
    assert played.changed == 0


def test_the_relay_does_not_notice(relay, refused, before, goes_out) -> None:
    assert relay.started == before
    goes_out()


def test_what_is_not_ours_is_left_alone(relay, refused, foreign) -> None:
    assert relay.inspect(FOREIGN)["Id"] == foreign
