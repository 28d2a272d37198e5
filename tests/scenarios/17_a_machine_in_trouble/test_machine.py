"""A clock that is wrong, a disk that is full, a certificate that has run out."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.certificates import Authority
from harness.clients import CLIENTS
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay, refuse_to_start

from sandbox.client import Control

TWO_HOURS = 2 * 3600.0


@pytest.mark.parametrize("ahead", [TWO_HOURS, -TWO_HOURS], ids=["Microsoft is ahead", "Microsoft is behind"])
def test_a_clock_two_hours_off(
    start_relay: Callable[..., Relay], sandbox: Control, planted: Planted, ahead: float
) -> None:
    """A token's life is counted from when it came, so that a wrong clock alone stops nothing."""
    sandbox.advance_clock(ahead)
    relay = start_relay()

    for _ in range(2):
        sent = CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user), "PLAIN")
        assert sent.status == 0, sent.transcript
    assert sandbox.counters().entra.token_requests == 1


def test_a_full_disk(settings: dict[str, str], planted: Planted) -> None:
    """Nothing can be written, so the relay says so and does not start. A limit stands in for the disk."""
    refusal = refuse_to_start(settings, planted, within=("prlimit", "--fsize=0"))
    assert refusal.status == 2, refusal
    assert "RELAY_DATA_DIR" in refusal.stderr
    assert settings["RELAY_DATA_DIR"] in refusal.stderr


def test_a_certificate_that_has_run_out(
    start_relay: Callable[..., Relay], tmp_path: Path, authority: Authority
) -> None:
    """The relay starts, for some clients do not mind, and says what the others will do."""
    yesterday = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=1)
    pair = authority.issue(directory=tmp_path, ends=yesterday)

    relay = start_relay(RELAY_TLS_CERT=str(pair.cert), RELAY_TLS_KEY=str(pair.key))

    [event] = relay.wait_for_event("certificate_expired")
    assert event["file"] == str(pair.cert)
    assert "Renew it" in event["consequence"]


def test_no_certificate_at_all(start_relay: Callable[..., Relay]) -> None:
    """One is made, kept over a restart, and said to be no good for Gmail."""
    shown = []
    for _ in range(2):
        relay = start_relay(RELAY_TLS_CERT="", RELAY_TLS_KEY="")
        [event] = relay.wait_for_event("certificate_self_signed")
        assert "Gmail will refuse" in event["consequence"]
        shown.append(Path(event["file"]).read_bytes())
        relay.stop()
    assert shown[0] == shown[1]
