"""A mailbox whose sign-in a person gives: missing, given while the relay runs, and ended by Microsoft."""

import contextlib
import smtplib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.clients import CLIENTS, Sent, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay, refuse_to_start, sign_in

from sandbox.client import Control


@pytest.fixture
def settings(settings: dict[str, str], sandbox: Control) -> dict[str, str]:
    """A personal outlook.com account."""
    personal = {"USER_EMAIL": sandbox.world().personal, "TENANT_ID": "consumers"}
    return settings | personal | {"RELAY_FLOW": "authorization_code"}


def _sign_in(settings: dict[str, str], sandbox: Control, planted: Planted) -> None:
    token = sandbox.refresh_token(settings["USER_EMAIL"], settings["CLIENT_ID"])
    sign_in(settings, planted.add("refresh token", token))


def _send(relay: Relay, planted: Planted) -> Sent:
    return CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")


def _refusal(relay: Relay, planted: Planted) -> smtplib.SMTPResponseException:
    mail = letter(planted, relay.account.user)
    with signed_in(relay.account) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail(mail.sender, mail.recipients, mail.content)
    return refusal.value


def test_missing_then_given(
    start_relay: Callable[..., Relay], settings: dict[str, str], sandbox: Control, planted: Planted
) -> None:
    """Until a person signs in, mail gets a 451 that says so; afterwards it flows, with no restart."""
    relay = start_relay()
    [event] = relay.wait_for_event("sign_in_needed")
    assert event["mailbox"] == settings["USER_EMAIL"]
    refusal = _refusal(relay, planted)
    assert refusal.smtp_code == 451
    assert b"sign" in refusal.smtp_error.lower()

    _sign_in(settings, sandbox, planted)

    sent = _send(relay, planted)
    assert sent.status == 0, sent.transcript
    assert len(sandbox.messages()) == 1


def test_it_outlives_a_restart(
    start_relay: Callable[..., Relay], settings: dict[str, str], sandbox: Control, planted: Planted
) -> None:
    _sign_in(settings, sandbox, planted)
    for _ in range(2):
        relay = start_relay()
        assert _send(relay, planted).status == 0
        relay.stop()
    assert len(sandbox.messages()) == 2


def test_ended_by_a_changed_password(
    start_relay: Callable[..., Relay], settings: dict[str, str], sandbox: Control, planted: Planted
) -> None:
    """While the token at hand is good, mail flows; the next refusal finds the sign-in dead."""
    _sign_in(settings, sandbox, planted)
    relay = start_relay()
    assert _send(relay, planted).status == 0

    sandbox.revoke(settings["USER_EMAIL"])
    sandbox.advance_clock(2 * 3600)
    sandbox.close_idle()

    refusal = _refusal(relay, planted)
    assert refusal.smtp_code == 451
    assert b"AADSTS50173" in refusal.smtp_error
    [event] = relay.wait_for_event("sign_in_needed")
    assert "AADSTS50173" in event["error"]


def test_a_vault_of_another_key_is_left_alone(
    settings: dict[str, str], sandbox: Control, planted: Planted
) -> None:
    _sign_in(settings, sandbox, planted)
    directory = Path(settings["RELAY_DATA_DIR"])
    [entry] = _entries(directory)
    (directory / "vault.key").unlink()

    refusal = refuse_to_start(settings, planted)

    assert refusal.status == 2
    assert settings["USER_EMAIL"] in refusal.stderr
    assert "another key" in refusal.stderr
    assert _entries(directory) == [entry]
    assert settings["CLIENT_SECRET"].encode() not in entry


def _entries(directory: Path) -> list[bytes]:
    """The vault's entries, as they lie in the database."""
    with contextlib.closing(sqlite3.connect(directory / "relay.db")) as connection:
        return [data for (data,) in connection.execute("SELECT data FROM blob WHERE name LIKE 'vault/%'")]
