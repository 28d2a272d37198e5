"""A device more: the relay reads its settings again, and goes on running."""

from __future__ import annotations

import smtplib

import pytest


def test_a_device_is_added_and_removed_without_a_restart(relay, world, deploy, goes_out) -> None:
    before = relay.started
    (mailbox,) = world["relay_mailboxes"]
    devices = [*mailbox["devices"], {"name": "scanner"}]
    run = deploy(relay_mailboxes=[mailbox | {"devices": devices}])
    assert run.changed == [
        "relay : Ensure the secrets are kept on this machine",
        "relay : Ensure the secrets are in their files",
        "relay : Ensure the settings are in relay.toml",
        "relay : Ensure the relay has read its settings again",
    ]
    assert relay.started == before
    password = relay.password("scanner")
    goes_out("scanner", password)

    assert deploy().refusal() == ""
    assert relay.started == before
    with relay.session() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("scanner", password)
    goes_out()
