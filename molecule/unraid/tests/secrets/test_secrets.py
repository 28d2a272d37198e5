"""No secret is in what Docker knows, in the image, in a log, in what Ansible says or in another file."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority

from tests.deploy import layers

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
# Of a machine that is there for the tests alone, everything but what others have lent it.
OTHERS = ["/proc", "/sys", "/dev", "/srv/tower/engine", "/mnt/user"]  # the last is /srv/tower/array


@pytest.fixture(scope="module")
def planted(relay, play, tmp_path_factory) -> dict[str, bytes]:
    """Every secret of this deployment, and a private key, for which there is one more run."""
    directory = tmp_path_factory.mktemp("certificate")
    pair = Authority(directory).issue(directory=directory)
    files = {"relay_tls_certificate": str(pair.cert), "relay_tls_private_key": str(pair.key)}
    played = play("playbooks/relay.yml", "-vv", "--diff", **files)
    assert played.code == 0, played.tail

    secrets = relay.kept() | relay.kept("sandbox")
    secrets |= {name: relay.read(f"secrets/{name}") for name in names(relay)}
    assert secrets["alert_urls"] == "json://127.0.0.1:9/planted-alert-token"
    secrets["alert_urls"] = "planted-alert-token"
    secrets["private_key"] = pair.key.read_text().splitlines()[1]
    secrets["registry_login"] = base64.b64encode(f"sandbox:{secrets['registry_password']}".encode()).decode()
    # Without the padding, which a URL writes otherwise.
    return {name: value.rstrip("=").encode() for name, value in secrets.items()}


def names(relay) -> set[str]:
    return {path.rpartition("/")[2] for path in relay.files("-path", f"{relay.directory}/secrets/*")}


def found(planted: dict[str, bytes], text: bytes) -> set[str]:
    return {name for name, value in planted.items() if value in text}


def test_all_of_them_are_looked_for(planted, relay) -> None:
    assert names(relay) | {"registry_password", "registry_login", "private_key"} <= planted.keys()
    assert {"vault_key", "console_password", "console_token", "alert_urls", "password_nas"} <= names(relay)
    for name, value in planted.items():
        assert len(value) >= 15, name


@pytest.fixture(scope="module")
def containers(relay, engine, places) -> list[Any]:
    names = (relay.name, f"{places['sandbox_name']}-microsoft", f"{places['sandbox_name']}-registry")
    return [engine.containers.get(name) for name in names]


def test_not_in_the_descriptions_of_containers(planted, relay, engine, containers, places) -> None:
    others = [engine.images.get(relay.image), engine.networks.get(places["relay_network"])]
    described = json.dumps([each.attrs for each in containers + others])
    assert "/secrets/vault_key" in described
    assert found(planted, described.encode()) == set()


def test_not_in_the_image(planted, relay, engine, tmp_path) -> None:
    image = engine.images.get(relay.image)
    assert found(planted, json.dumps(image.history()).encode()) == set()
    # What is there must be found, or the search is none.
    sought = planted | {"source": (PROJECT / "relay_app/errors.py").read_bytes()}
    with (tmp_path / "image.tar").open("wb") as saved:
        saved.writelines(image.save())
    seen = {name: found(sought, content) for name, content in layers.files(tmp_path / "image.tar")}
    (source,) = (name for name, hits in seen.items() if hits)
    assert source.endswith("/relay_app/errors.py")
    assert seen[source] == {"source"}


def test_not_in_the_logs_of_containers(planted, relay, containers) -> None:
    for container in containers:
        assert found(planted, container.logs()) == set(), container.name
    assert "event=" in relay.logs()


def test_not_in_what_ansible_says(planted) -> None:
    said = (GROUND / "ansible.log").read_bytes()
    assert b"task path:" in said, "this was no run with -vv"
    assert b"Ensure the secrets are in their files" in said
    assert b"Ensure the certificate and its key are present" in said
    assert found(planted, said) == set()


def test_on_the_tower_only_in_files_that_are_meant_to_hold_them(planted, relay) -> None:
    """Nor on its boot device, with the template, nor what a run could have left in /tmp."""
    prune = " -o ".join(f"-path {path}" for path in OTHERS)
    values = b"\n".join(planted.values()).decode()
    holding = relay.host.check_output(
        rf"find / \( {prune} \) -prune -o -type f -print0 | xargs -0 grep -lF -e %s || test $? = 123", values
    )
    root = f"/srv/tower/array/appdata/{relay.name}"
    ours = {*(f"secrets/{name}" for name in names(relay)), "certs/privkey.pem"}
    # And where they are kept for a run that fails.
    assert set(holding.splitlines()) == {f"{root}/{place}{name}" for place in ("", ".good/") for name in ours}


def test_on_this_machine_only_in_the_file_that_is_meant_to_hold_one(planted) -> None:
    """What is kept here is encrypted. The sandbox's registry has its password as a file."""
    places = (Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser(), GROUND)
    holding = {str(path) for place in places for path in place.rglob("*") if found(planted, content(path))}
    assert holding == {str(GROUND / "sandbox/registry/registry_password")}


def content(path: Path) -> bytes:
    """What is in a file; nothing, if it is none or another run has just removed it."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""


def test_the_image_has_empty_mount_points(relay, engine) -> None:
    listed = engine.containers.run(
        relay.image,
        ["-A", "/certs", "/config", "/data", "/secrets"],
        entrypoint="ls",
        network_mode="none",
        remove=True,
    )
    assert listed.split() == [b"/certs:", b"/config:", b"/data:", b"/secrets:"]
