"""Gmail opens a connection for each recipient, all at the same time; Outlook allows three."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from harness.clients import signed_in
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control

CLIENTS = 50


def test_fifty_clients_at_once(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """All are signed in before any sends. None hears an error, and Outlook never sees a fourth connection."""
    sandbox.limits(messages_per_minute=0)
    account = relay.account
    mails = [letter(planted, account.user, f"recipient{number}@example.net") for number in range(CLIENTS)]
    ready = Barrier(CLIENTS, timeout=60)

    def submit(number: int) -> None:
        mail = mails[number]
        with signed_in(account) as client:
            ready.wait()
            assert client.sendmail(mail.sender, mail.recipients, mail.content) == {}

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(submit, range(CLIENTS)))

    messages = sandbox.messages()
    assert sorted(message.recipients[0] for message in messages) == sorted(
        mail.recipients[0] for mail in mails
    )
    assert sandbox.counters().smtp.mailbox_peak[account.user] <= 3
    assert sandbox.counters().smtp.messages_refused == 0
