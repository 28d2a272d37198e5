"""Settings that cannot work: the relay names them all at once, says what to do, and exits with 2."""

import socket
from pathlib import Path

import pytest
from harness.certificates import Authority
from harness.planted import Planted
from harness.relay import Refusal, refuse_to_start


def _refused(settings: dict[str, str], planted: Planted, **changes: str) -> Refusal:
    refusal = refuse_to_start({**settings, **changes}, planted)
    assert refusal.status == 2, refusal
    return refusal


def test_nothing_set(planted: Planted) -> None:
    refusal = refuse_to_start({}, planted)
    assert refusal.status == 2
    for name in ("CLIENT_ID", "USER_EMAIL", "RELAY_PASSWORD"):
        assert name in refusal.stderr


def test_all_problems_at_once(settings: dict[str, str], planted: Planted) -> None:
    refusal = _refused(
        settings,
        planted,
        RELAY_LISTEN="0.0.0.0:25",
        RELAY_FLOW="password",
        TENANT_ID="not a tenant",
        USER_EMAIL="nobody",
        RELAY_COLOUR="green",
        RELAY_UPSTREAM="smtp.example.org:port",
        RELAY_TLS_CERT="/nonexistent/cert.pem",
    )
    for name in (
        "RELAY_LISTEN",
        "RELAY_FLOW",
        "TENANT_ID",
        "USER_EMAIL",
        "RELAY_COLOUR",
        "RELAY_UPSTREAM",
        "/nonexistent/cert.pem",
    ):
        assert name in refusal.stderr, name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RELAY_LISTEN": "0.0.0.0:25"}, ["RELAY_LISTEN", "25", "587"]),
        ({"TENANT_ID": "contoso.onmicrosoft.com/oauth2"}, ["TENANT_ID"]),
        ({"TENANT_ID": "12345678-1234"}, ["TENANT_ID"]),
        ({"RELAY_LISTN": "0.0.0.0:587"}, ["RELAY_LISTN"]),
        ({"RELAY_PASSWORD": ""}, ["RELAY_PASSWORD"]),
        ({"RELAY_PASSWORD_FILE": "/nonexistent/password"}, ["RELAY_PASSWORD", "RELAY_PASSWORD_FILE", "both"]),
        (
            {"RELAY_PASSWORD": "", "RELAY_PASSWORD_FILE": "/nonexistent/password"},
            ["RELAY_PASSWORD_FILE", "/nonexistent/password"],
        ),
        ({"CLIENT_SECRET": ""}, ["CLIENT_SECRET"]),
        ({"RELAY_FLOW": "password"}, ["RELAY_FLOW", "client_credentials"]),
        ({"RELAY_AUTHORITY": "http://login.example.org"}, ["RELAY_AUTHORITY", "https"]),
        ({"RELAY_CONFIG": "/nonexistent/relay.toml"}, ["RELAY_CONFIG", "/nonexistent/relay.toml"]),
        ({"RELAY_UPSTREAM_CA": "/nonexistent/ca.pem"}, ["RELAY_UPSTREAM_CA", "/nonexistent/ca.pem"]),
        ({"RELAY_VAULT_KEY": "not a key"}, ["RELAY_VAULT_KEY"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_value(
    settings: dict[str, str], planted: Planted, changes: dict[str, str], words: list[str]
) -> None:
    refusal = _refused(settings, planted, **changes)
    for word in words:
        assert word in refusal.stderr, refusal.stderr


def test_a_key_that_cannot_be_read(settings: dict[str, str], planted: Planted, tmp_path: Path) -> None:
    """A directory in its place: not even root can read that as a file."""
    refusal = _refused(settings, planted, RELAY_TLS_KEY=str(tmp_path))
    assert f"RELAY_TLS_KEY: cannot read {tmp_path}" in refusal.stderr


def test_a_key_that_does_not_match(settings: dict[str, str], planted: Planted, authority: Authority) -> None:
    other = authority.issue()
    refusal = _refused(settings, planted, RELAY_TLS_KEY=str(other.key))
    assert "RELAY_TLS_KEY" in refusal.stderr
    assert str(other.key) in refusal.stderr


def test_a_port_in_use(settings: dict[str, str], planted: Planted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        refusal = _refused(settings, planted, RELAY_LISTEN=address)
    assert address in refusal.stderr
    assert "another program listens there" in refusal.stderr


def test_a_data_directory_that_cannot_be_made(
    settings: dict[str, str], planted: Planted, tmp_path: Path
) -> None:
    """A file in its place: even root cannot write there."""
    (tmp_path / "file").write_text("")
    refusal = _refused(settings, planted, RELAY_DATA_DIR=str(tmp_path / "file" / "data"))
    assert str(tmp_path / "file") in refusal.stderr
