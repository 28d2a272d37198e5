"""No secret is in the container's description, in the image, in a log or in what Ansible says."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PIECE = 1 << 20


@pytest.fixture(scope="module")
def planted(relay, engine) -> dict[str, bytes]:
    """Every secret of this deployment, and the registry's as a login has it."""
    secrets = relay.kept() | relay.kept("sandbox")
    secrets |= {path.name: path.read_text() for path in (relay.directory / "secrets").iterdir()}
    secrets["registry_login"] = base64.b64encode(f"sandbox:{secrets['registry_password']}".encode()).decode()
    assert len(secrets["client_secret_office-example-org"]) > 20
    assert "planted-alert-token" in secrets.pop("alert_urls")
    secrets["alert_token"] = "planted-alert-token"
    return {name: value.encode() for name, value in secrets.items()}


def found(planted: dict[str, bytes], text: bytes) -> set[str]:
    return {name for name, value in planted.items() if value in text}


def test_what_is_looked_for_would_be_found(planted, relay) -> None:
    for name, value in planted.items():
        assert len(value) >= 15, name
    names = {path.name for path in (relay.directory / "secrets").iterdir()} - {"alert_urls"}
    files = b"".join(path.read_bytes() for path in (relay.directory / "secrets").iterdir())
    assert found(planted, files) >= names | {"alert_token"}
    assert {"vault_key", "console_password", "console_token", "registry_password"} <= planted.keys()


def test_not_in_the_descriptions_of_containers(planted, relay, engine, places) -> None:
    names = [relay.name, f"{places['sandbox_name']}-microsoft", f"{places['sandbox_name']}-registry"]
    described = engine("inspect", *names, relay.image, places["relay_network"])
    assert "/secrets/vault_key" in described
    assert found(planted, described.encode()) == set()


def test_not_in_the_image(planted, relay, engine) -> None:
    assert found(planted, engine("history", "--no-trunc", relay.image).encode()) == set()
    with subprocess.Popen(["docker", "save", relay.image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        seen: set[str] = set()
        size = 0
        before = b""
        while piece := saving.stdout.read(PIECE):
            seen |= found(planted, before + piece)
            before = piece[-100:]
            size += len(piece)
    assert saving.returncode == 0
    assert size > 50 * PIECE
    assert seen == set()


def test_not_in_the_logs_of_containers(planted, relay, engine, places) -> None:
    for name in (relay.name, f"{places['sandbox_name']}-microsoft", f"{places['sandbox_name']}-registry"):
        assert found(planted, engine("logs", name).encode()) == set(), name
    assert "event=" in relay.logs()


def test_not_in_what_ansible_says(planted) -> None:
    said = (GROUND / "ansible.log").read_bytes()
    assert b"task path:" in said, "this was no run with -vv"
    assert b"Files | Write the secrets" in said
    assert found(planted, said) == set()


def test_not_where_docker_and_ansible_keep_things(planted) -> None:
    for place in (Path.home() / ".docker", Path.home() / ".ansible"):
        for path in place.rglob("*"):
            if path.is_file():
                assert found(planted, path.read_bytes()) == set(), path


def test_the_image_has_empty_mount_points(relay, engine) -> None:
    alone = ("run", "--rm", "--network=none", "--entrypoint=ls", relay.image)
    listed = engine(*alone, "-A", "/certs", "/config", "/data", "/secrets")
    assert listed.split() == ["/certs:", "/config:", "/data:", "/secrets:"]
