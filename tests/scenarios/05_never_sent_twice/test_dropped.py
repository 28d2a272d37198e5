"""A connection that breaks around the final dot: the client hears 451, and the relay sends nothing twice."""

import pytest
from harness.clients import CLIENTS, Sent
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control

LINE = b"0123456789abcdef" * 4 + b"\r\n"


def _submit(relay: Relay, planted: Planted, body: bytes = b"") -> Sent:
    return CLIENTS["smtplib"](relay.account, letter(planted, relay.account.user, body=body), "PLAIN")


@pytest.mark.parametrize(("drop", "arrived"), [("after_dot", 0), ("after_accept", 1)])
@pytest.mark.parametrize("warm", [False, True], ids=["first connection", "reused connection"])
def test_dropped_after_the_dot(
    relay: Relay, sandbox: Control, planted: Planted, drop: str, arrived: int, warm: bool
) -> None:
    """Outlook may have the message, and we cannot know: the client hears so, and we do not send it again."""
    if warm:
        assert _submit(relay, planted).status == 0
    sandbox.fail_smtp("eod", drop=drop)

    sent = _submit(relay, planted)

    assert sent.status != 0
    assert sent.replied("451[ -]4"), sent.transcript
    assert len(sandbox.messages()) == warm + arrived
    assert relay.wait_for_event("message", count=1 + warm)[-1]["verdict"] == "uncertain"
    # The client's own next attempt goes through.
    assert _submit(relay, planted).status == 0
    assert len(sandbox.messages()) == warm + arrived + 1


def test_dropped_before_the_dot(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Outlook cannot have it: it is too large to be on its way, dot and all, before anybody notices."""
    sandbox.fail_smtp("eod", drop="before_dot", times=2)

    sent = _submit(relay, planted, LINE * 100_000)

    assert sent.replied("451[ -]4"), sent.transcript[-1000:]
    assert sandbox.messages() == []
    assert relay.wait_for_event("message")[0]["verdict"] == "deferred"


def test_a_warm_connection_dropped_before_the_dot(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """What certainly did not arrive may be sent again over a new connection, and the client sees a 250."""
    assert _submit(relay, planted).status == 0
    sandbox.fail_smtp("eod", drop="before_dot")

    assert _submit(relay, planted, LINE * 100_000).status == 0
    assert len(sandbox.messages()) == 2


def test_a_warm_connection_that_died_costs_nothing(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """Outlook closes idle connections; the next message must not fail because of that."""
    assert _submit(relay, planted).status == 0
    sandbox.fail_smtp("mail", drop="now")
    sandbox.fail_smtp("noop", drop="now")
    sandbox.fail_smtp("rset", drop="now")

    assert _submit(relay, planted).status == 0
    assert len(sandbox.messages()) == 2
