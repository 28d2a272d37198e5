"""A password is replaced."""

from __future__ import annotations

import smtplib

import pytest


def test_the_old_password_is_refused_and_the_new_one_works(relay, deploy, goes_out) -> None:
    before, old = relay.started, relay.password()
    assert deploy("playbooks/rotate.yml", rotate="relay_password").refusal() == ""
    assert relay.started == before, "passwords are read again without a restart"
    assert relay.password() != old
    with relay.session() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("office@example.org", old)
    goes_out()
