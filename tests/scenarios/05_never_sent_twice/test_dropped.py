"""A connection that breaks around the final dot: the client hears 451, and the relay sends nothing twice."""

import smtplib

import pytest
from harness.clients import CLIENTS, signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control


@pytest.mark.parametrize(("drop", "arrived"), [("before_dot", 0), ("after_dot", 0), ("after_accept", 1)])
@pytest.mark.parametrize("warm", [False, True], ids=["first connection", "reused connection"])
def test_dropped(
    relay: Relay, sandbox: Control, planted: Planted, drop: str, arrived: int, warm: bool
) -> None:
    account = relay.account
    if warm:
        assert CLIENTS["smtplib"](account, letter(planted, account.user), "PLAIN").status == 0
    before = len(sandbox.messages())
    sandbox.fail_smtp("eod", drop=drop)

    mail = letter(planted, account.user)
    with signed_in(account) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail(mail.sender, mail.recipients, mail.content)

    assert refusal.value.smtp_code == 451
    assert len(sandbox.messages()) - before == arrived
    event = relay.wait_for_event("message", count=2 if warm else 1)[-1]
    assert event["verdict"] == ("deferred" if drop == "before_dot" else "uncertain")
    # The client's own next attempt goes through.
    assert CLIENTS["smtplib"](account, mail, "PLAIN").status == 0
    assert len(sandbox.messages()) - before == arrived + 1


def test_a_warm_connection_that_died_costs_nothing(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Outlook closes idle connections; the next message must not fail because of that."""
    account = relay.account
    assert CLIENTS["smtplib"](account, letter(planted, account.user), "PLAIN").status == 0
    sandbox.fail_smtp("mail", drop="now")
    sandbox.fail_smtp("noop", drop="now")
    sandbox.fail_smtp("rset", drop="now")

    assert CLIENTS["smtplib"](account, letter(planted, account.user), "PLAIN").status == 0
    assert len(sandbox.messages()) == 2
