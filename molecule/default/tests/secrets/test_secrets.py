"""After many runs no secret is anywhere else, where the relay and Ansible are on one machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.fixture(scope="module")
def secrets(relay) -> dict[Path, bytes]:
    """The files that are meant to hold one, and the secret. A URL writes its padding otherwise."""
    files = [GROUND / "sandbox/registry/registry_password", *(relay.directory / "secrets").iterdir()]
    read = {file: file.read_bytes().rstrip(b"=") for file in files}
    return read | {relay.directory / "secrets/alert_urls": b"planted-alert-token"}


def test_not_in_what_ansible_has_said(secrets) -> None:
    said = (GROUND / "ansible.log").read_bytes()
    for task in (b"Ensure the secrets are in their files", b"Ensure the new key is beside the old one"):
        assert task in said
    assert [file for file, secret in secrets.items() if secret in said] == []


def test_only_in_files_that_are_meant_to_hold_them(secrets, relay) -> None:
    files = {file: file.read_bytes() for file in GROUND.rglob("*") if file.is_file()}
    holding = {file for file, content in files.items() if any(map(content.__contains__, secrets.values()))}
    # And where they are kept for a run that fails.
    kept = {relay.directory / ".good/secrets" / name for name in os.listdir(relay.directory / "secrets")}
    assert holding == secrets.keys() | kept
