"""What lies on the host: who owns it, who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

UID, GID = (99, 100) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def facts(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return oct(stat.S_IMODE(found.st_mode))[2:], found.st_uid, found.st_gid


@pytest.mark.parametrize(
    ("name", "mode"), [("", "755"), ("data", "700"), ("config", "755"), ("secrets", "700"), ("certs", "700")]
)
def test_directories(relay, name: str, mode: str) -> None:
    assert facts(relay.directory / name) == (mode, UID, GID)


def test_each_secret_is_a_file_for_the_relay_alone(relay) -> None:
    files = {path.name: facts(path) for path in (relay.directory / "secrets").iterdir()}
    assert files == dict.fromkeys(
        [
            "alert_urls",
            "client_secret_office-example-org",
            "console_password",
            "console_token",
            "password_nas",
            "password_office-example-org",
            "vault_key",
        ],
        ("400", UID, GID),
    )


def test_they_hold_what_was_made_and_what_was_written_down(relay) -> None:
    read = {path.name: path.read_text() for path in (relay.directory / "secrets").iterdir()}
    kept = relay.kept()
    assert read["password_office-example-org"] == relay.password()
    assert read["password_nas"] == "planted-device-password"
    for name in ("vault_key", "console_password", "console_token"):
        assert read[name] == kept[name]


def test_the_settings_name_files_only(relay) -> None:
    settings = relay.directory / "config/relay.toml"
    assert facts(settings) == ("444", UID, GID)
    assert 'client_secret_file = "/secrets/client_secret_office-example-org"' in settings.read_text()
    assert "client_secret =" not in settings.read_text()
    assert facts(relay.directory / "certs/upstream-ca.pem") == ("444", UID, GID)


def test_nothing_is_left_half_written(relay) -> None:
    assert list(relay.directory.rglob(".host_file-*")) == []


def test_what_is_kept_on_this_machine_is_encrypted_and_for_its_user_alone() -> None:
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets"
    assert facts(directory)[0] == "700"
    for name in ("relay.yml", "sandbox.yml"):
        assert facts(directory / name)[0] == "600"
        assert (directory / name).read_text().startswith("$ANSIBLE_VAULT;")
