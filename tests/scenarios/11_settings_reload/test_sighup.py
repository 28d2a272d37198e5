"""SIGHUP: devices come and go without a restart, and a bad file changes nothing."""

import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from harness.clients import CLIENTS, Account, Sent, signed_in
from harness.config import ConfiguredRelay, Device
from harness.letters import letter
from harness.planted import Planted
from harness.relay import Relay

from sandbox.client import Control


@pytest.fixture
def scanner(planted: Planted) -> Device:
    return Device("scanner", planted.make("password"))


@pytest.fixture
def configured(start_configured: Callable[..., ConfiguredRelay], scanner: Device) -> ConfiguredRelay:
    return start_configured(scanner)


def _submit(configured: ConfiguredRelay, device: Device, planted: Planted) -> Sent:
    return CLIENTS["smtplib"](configured.account(device), letter(planted, configured.mailbox), "PLAIN")


def test_devices_come_and_go(
    configured: ConfiguredRelay, scanner: Device, sandbox: Control, planted: Planted
) -> None:
    nas = Device("nas", planted.make("password"))
    assert _submit(configured, scanner, planted).status == 0
    assert _submit(configured, nas, planted).replied("535")

    configured.config.devices = (scanner, nas)
    configured.reload()
    assert _submit(configured, nas, planted).status == 0

    configured.config.devices = (nas,)
    configured.reload()
    assert _submit(configured, scanner, planted).replied("535")
    assert _submit(configured, nas, planted).status == 0
    assert len(sandbox.messages()) == 3
    # The mailbox did not change: its token and its connection are still in use.
    assert sandbox.counters().entra.token_requests == 1
    assert sandbox.counters().smtp.connections == 1


def test_a_changed_password_ends_the_old_one(
    configured: ConfiguredRelay, scanner: Device, sandbox: Control, planted: Planted
) -> None:
    assert _submit(configured, scanner, planted).status == 0

    changed = replace(scanner, password=planted.make("password"))
    configured.config.devices = (changed,)
    configured.reload()

    assert _submit(configured, scanner, planted).replied("535")
    assert _submit(configured, changed, planted).status == 0


def test_a_message_under_way_goes_on(
    configured: ConfiguredRelay, scanner: Device, sandbox: Control, planted: Planted
) -> None:
    mail = letter(planted, configured.mailbox)
    with signed_in(configured.account(scanner)) as client:
        client.mail(mail.sender)
        client.rcpt(mail.recipients[0])
        configured.reload()
        assert client.data(mail.content)[0] == 250
    assert len(sandbox.messages()) == 1


def _send_after_a_reload(relay: Relay, account: Account, sender: str, planted: Planted) -> None:
    mail = letter(planted, sender)
    with signed_in(account) as client:
        relay.signal(signal.SIGHUP)
        relay.wait_for_event("reloaded")
        assert client.sendmail(mail.sender, mail.recipients, mail.content) == {}


def test_a_reload_without_a_change_disturbs_nobody(relay: Relay, sandbox: Control, planted: Planted) -> None:
    """A certificate's renewal ends in SIGHUP, too: who has logged in just before goes on."""
    _send_after_a_reload(relay, relay.account, relay.account.user, planted)
    assert len(sandbox.messages()) == 1


def test_neither_when_the_password_is_in_the_file(
    configured: ConfiguredRelay, scanner: Device, sandbox: Control, planted: Planted
) -> None:
    _send_after_a_reload(configured.relay, configured.account(scanner), configured.mailbox, planted)
    assert len(sandbox.messages()) == 1


def test_a_bad_file_changes_nothing(
    configured: ConfiguredRelay, scanner: Device, sandbox: Control, planted: Planted
) -> None:
    configured.config.file.write_text('[[mailbox]]\naddress = "office@example.org"\ncolour = "green"\n')
    configured.relay.signal(signal.SIGHUP)

    event = configured.relay.wait_for_event("reload_refused")[0]
    assert event["consequence"] == "the old settings stay in use"
    assert _submit(configured, scanner, planted).status == 0
