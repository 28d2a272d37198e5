"""Tokens: renewed when refused, fetched when possible, and their trouble told in plain words."""

import smtplib
from collections.abc import Callable

import pytest
from harness.clients import CLIENTS, Sent, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control


def _send(relay: Relay, planted: Planted) -> Sent:
    return CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")


def _refusal(relay: Relay, planted: Planted) -> smtplib.SMTPResponseException:
    mail = letter(planted, relay.account.user)
    with signed_in(relay.account) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail(mail.sender, mail.recipients, mail.content)
    return refusal.value


def test_a_refused_token_is_renewed_once(relay: Relay, sandbox: Control, planted: Planted) -> None:
    sandbox.fail_smtp("auth", reply="535 5.7.3 Authentication unsuccessful")

    sent = _send(relay, planted)

    assert sent.status == 0, sent.transcript
    assert sandbox.counters().entra.token_requests == 2
    assert len(sandbox.messages()) == 1


def test_a_token_refused_twice_is_a_clear_failure(relay: Relay, sandbox: Control, planted: Planted) -> None:
    sandbox.fail_smtp("auth", reply="535 5.7.3 Authentication unsuccessful", times=0)

    refusal = _refusal(relay, planted)

    assert refusal.smtp_code == 451
    assert b"5.7.3" in refusal.smtp_error
    assert b"primary sign-in name" in refusal.smtp_error
    assert sandbox.counters().smtp.auth_attempts == 2
    assert sandbox.counters().entra.token_requests == 2


@pytest.mark.parametrize("auth_failure", ["direct", "challenge"])
def test_an_expired_token_is_replaced(
    relay: Relay, sandbox: Control, planted: Planted, auth_failure: str
) -> None:
    """The clock of Microsoft runs ahead of ours: the token we hold for good has expired there."""
    sandbox.limits(auth_failure=auth_failure)
    relay.wait_for_event("tokens_ok")
    sandbox.advance_clock(2 * 3600)

    sent = _send(relay, planted)

    assert sent.status == 0, sent.transcript
    assert sandbox.counters().entra.token_requests == 2


def test_the_token_service_is_down_at_start(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted
) -> None:
    """The relay listens, mail gets a 451 with the reason, and when the service is back so is the mail."""
    sandbox.fail_entra("discovery", status=503, times=0)
    sandbox.fail_entra("token", status=503, times=0)
    relay = start_relay()

    refusal = _refusal(relay, planted)
    assert refusal.smtp_code == 451

    sandbox.clear_faults()
    relay.wait_for_event("tokens_ok")
    sent = _send(relay, planted)
    assert sent.status == 0, sent.transcript


def test_the_token_service_asks_for_patience(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted
) -> None:
    """429 with Retry-After: mail is told to come back, and the service not asked again before its time."""
    sandbox.fail_entra("token", status=429, retry_after=3600, times=0)
    relay = start_relay()

    for _ in range(3):
        assert _refusal(relay, planted).smtp_code == 451
    assert sandbox.counters().entra.token_requests == 1


@pytest.mark.parametrize("certificate", ["wrong_name", "self_signed", "expired"])
def test_the_token_service_shows_a_wrong_certificate(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted, certificate: str
) -> None:
    """The client secret goes to nobody who cannot prove to be Microsoft."""
    sandbox.certificate(certificate, service="entra")
    relay = start_relay()

    refusal = _refusal(relay, planted)

    assert refusal.smtp_code == 451
    assert b"certificate" in refusal.smtp_error.lower()
    assert sandbox.counters().entra.token_requests == 0


def test_a_wrong_client_secret_is_named(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted
) -> None:
    relay = start_relay(CLIENT_SECRET=planted.make("wrong client secret"))

    refusal = _refusal(relay, planted)

    assert refusal.smtp_code == 451
    [event] = relay.wait_for_event("tokens_failing")
    assert "AADSTS7000215" in event["error"]
    assert "CLIENT_SECRET" in event["error"]
    assert sandbox.messages() == []


def test_one_token_serves_many_messages(relay: Relay, sandbox: Control, planted: Planted) -> None:
    for _ in range(5):
        assert _send(relay, planted).status == 0
    assert sandbox.counters().entra.token_requests == 1
    assert sandbox.counters().smtp.connections == 1
