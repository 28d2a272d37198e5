"""A new certificate is served without a restart, while mail flows; a bad one never replaces a good one."""

import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair
from harness.clients import CLIENTS, connected, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.programs import wait_until
from harness.relay import Relay

from sandbox.client import Control


@pytest.fixture
def own_pair(authority: Authority, settings: dict[str, str], tmp_path: Path) -> Pair:
    """A pair that belongs to this test's relay alone."""
    pair = authority.issue(directory=tmp_path / "pair")
    settings |= {"RELAY_TLS_CERT": str(pair.cert), "RELAY_TLS_KEY": str(pair.key)}
    return pair


def _served(relay: Relay) -> bytes:
    """The certificate that a client is shown now."""
    with connected(relay.account) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def _first_of(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        pair.cert.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    )


def test_renewed_while_a_message_is_under_way(
    own_pair: Pair,
    start_relay: Callable[..., Relay],
    authority: Authority,
    sandbox: Control,
    planted: Planted,
) -> None:
    """As certbot does it: the files change, and nobody tells the relay."""
    relay = start_relay()
    mail = letter(planted, relay.account.user)
    first, second = mail.content[:60], mail.content[60:]
    with signed_in(relay.account) as client:
        assert client.mail(mail.sender)[0] == 250
        assert client.rcpt(mail.recipients[0])[0] == 250
        assert client.docmd("DATA")[0] == 354
        client.send(first)

        old = _served(relay)
        authority.issue(directory=own_pair.cert.parent)
        wait_until(lambda: _served(relay) == _first_of(own_pair), "the new certificate is served")
        assert _served(relay) != old

        client.send(second + b".\r\n")
        assert client.getreply()[0] == 250
    assert len(sandbox.messages()) == 1


def test_sighup_loads_it_at_once(
    own_pair: Pair, start_relay: Callable[..., Relay], authority: Authority
) -> None:
    relay = start_relay()
    authority.issue(directory=own_pair.cert.parent)

    relay.signal(signal.SIGHUP)

    relay.wait_for_event("certificate_loaded")
    assert _served(relay) == _first_of(own_pair)


@pytest.mark.parametrize("fault", ["not PEM", "another key", "gone"])
def test_a_bad_pair_is_reported_and_not_used(
    own_pair: Pair,
    start_relay: Callable[..., Relay],
    authority: Authority,
    sandbox: Control,
    planted: Planted,
    fault: str,
) -> None:
    relay = start_relay()
    good = _served(relay)
    if fault == "not PEM":
        own_pair.cert.write_text("no certificate\n")
    elif fault == "another key":
        own_pair.key.write_bytes(authority.issue().key.read_bytes())
    else:
        own_pair.key.unlink()

    relay.signal(signal.SIGHUP)

    [event] = relay.wait_for_event("certificate_rejected")
    assert str(own_pair.cert.parent) in event["reason"]
    assert _served(relay) == good
    assert CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN").status == 0
