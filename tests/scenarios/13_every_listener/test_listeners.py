"""Implicit TLS, IPv6, several addresses: whatever a client can be set to."""

import base64
import smtplib
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, SECONDS, connected
from harness.letters import letter
from harness.planted import Planted
from harness.ports import free_port
from harness.relay import Relay

from sandbox.client import Control


def test_implicit_tls(start_relay: Callable[..., Relay], sandbox: Control, planted: Planted) -> None:
    """As on port 465: every client gets AUTH offered and its mail through."""
    relay = start_relay(RELAY_LISTEN_TLS=f"127.0.0.1:{free_port()}")
    account = relay.account_at("RELAY_LISTEN_TLS", implicit_tls=True)
    for client, send in CLIENTS.items():
        sent = send(account, letter(planted, account.user), "PLAIN")
        assert sent.status == 0, (client, sent.transcript)
    assert len(sandbox.messages()) == len(CLIENTS)


def test_ipv6(start_relay: Callable[..., Relay], sandbox: Control, planted: Planted) -> None:
    relay = start_relay(RELAY_LISTEN=f"[::1]:{free_port('::1')}")
    for client, send in CLIENTS.items():
        sent = send(relay.account, letter(planted, relay.account.user), "PLAIN")
        assert sent.status == 0, (client, sent.transcript)
    assert len(sandbox.messages()) == len(CLIENTS)


def test_several_addresses(start_relay: Callable[..., Relay], sandbox: Control, planted: Planted) -> None:
    first, second = f"127.0.0.1:{free_port()}", f"[::1]:{free_port('::1')}"
    relay = start_relay(RELAY_LISTEN=f"{first},{second}")
    for address in (first, second):
        relay.wait_for_event("listening", address=address)
        relay.settings["RELAY_LISTEN"] = address
        sent = CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")
        assert sent.status == 0, sent.transcript
    assert len(sandbox.messages()) == 2


def test_only_what_works_is_offered(shared_relay: Relay) -> None:
    account = shared_relay.account
    with smtplib.SMTP(account.host, account.port, timeout=SECONDS) as plain:
        plain.ehlo()
        assert set(plain.esmtp_features) == {
            "size",
            "8bitmime",
            "smtputf8",
            "pipelining",
            "enhancedstatuscodes",
            "starttls",
        }
    with connected(account) as client:
        assert set(client.esmtp_features) == {
            "size",
            "8bitmime",
            "smtputf8",
            "pipelining",
            "enhancedstatuscodes",
            "auth",
        }
        assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}
        assert int(client.esmtp_features["size"]) >= 35_000_000


@pytest.mark.parametrize("mechanism", ["plain", "Login"])
def test_mechanism_names_in_any_case(shared_relay: Relay, mechanism: str) -> None:
    account = shared_relay.account
    with connected(account) as client:
        client.user, client.password = account.user, account.password
        answers = iter(
            [f"\0{account.user}\0{account.password}"]
            if mechanism == "plain"
            else [account.user, account.password]
        )
        code = client.docmd("AUTH", mechanism)[0]
        while code == 334:
            code = client.docmd(_base64(next(answers)))[0]
        assert code == 235


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
