"""A certificate and a port more take a restart, once. One that is replaced takes none. Both can go again."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from harness.programs import wait_until

DIRECTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "certificate"
TLS_PORT = 21465
AUTHORITY = trustme.CA()


def issue() -> str:
    """Put a new certificate where the playbook finds it; return it."""
    DIRECTORY.mkdir(exist_ok=True)
    issued = AUTHORITY.issue_cert("smtprelay.localhost")
    issued.private_key_pem.write_to_path(DIRECTORY / "privkey.pem")
    (DIRECTORY / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    AUTHORITY.cert_pem.write_to_path(DIRECTORY / "ca.pem")
    return issued.cert_chain_pems[0].bytes().decode()


def same(one: str, other: str) -> bool:
    return ssl.PEM_cert_to_DER_cert(one) == ssl.PEM_cert_to_DER_cert(other)


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return {
        "relay_tls_port": f"127.0.0.1:{TLS_PORT}",
        "relay_tls_certificate": str(DIRECTORY / "fullchain.pem"),
        "relay_tls_private_key": str(DIRECTORY / "privkey.pem"),
        "verify_ca_file": str(DIRECTORY / "ca.pem"),
    }


@pytest.fixture(scope="module")
def first(relay, engine, play, variables) -> dict[str, Any]:
    """The first certificate, the port for TLS, and what the engine did for them."""
    shown = issue()
    since = time.time()
    played = play("site.yml", **variables)
    events = engine.events(since=since, until=time.time(), filters={"type": "container"}, decode=True)
    relays = [event["Action"] for event in events if event["Actor"]["Attributes"].get("name") == relay.name]
    return {"certificate": shown, "played": played, "events": relays}


def test_one_restart_is_enough(first) -> None:
    assert first["played"].code == 0, first["played"].tail
    assert first["events"].count("stop") == 1
    assert first["events"].count("start") == 1


def test_verify_has_checked_the_certificate_as_gmail_does(first) -> None:
    assert "Mail goes out. In Gmail:" in first["played"].text
    assert "The relay has no certificate" not in first["played"].text


def test_both_ports_show_it(relay, first, goes_out) -> None:
    assert same(relay.certificate(), first["certificate"])
    assert same(relay.certificate(TLS_PORT), first["certificate"])
    goes_out(port=TLS_PORT, issuer=DIRECTORY / "ca.pem")


def test_key_and_certificate_are_the_relays_alone(relay, first) -> None:
    for name in ("fullchain.pem", "privkey.pem"):
        assert (relay.directory / "certs" / name).stat().st_mode & 0o777 == 0o400


def test_a_new_one_is_taken_while_the_relay_runs(relay, first, play, variables, goes_out) -> None:
    before = relay.started
    renewed = issue()
    played = play("playbooks/relay.yml", **variables)
    assert played.code == 0, played.tail
    for port in (0, TLS_PORT):
        wait_until(lambda port=port: same(relay.certificate(port), renewed), "the new certificate is shown")
    assert relay.started == before
    goes_out(issuer=DIRECTORY / "ca.pem")


def test_without_them_it_shows_one_of_its_own(relay, first, play, goes_out) -> None:
    issued = (DIRECTORY / "fullchain.pem").read_text()
    assert relay.certificate() in issued
    played = play("playbooks/relay.yml")
    assert played.code == 0, played.tail
    assert relay.certificate() not in issued
    goes_out()
