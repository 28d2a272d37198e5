"""Devices come and go while the relay runs: it reads its settings again and is not started anew."""

from __future__ import annotations

from typing import Any

import pytest

WORK = "office@example.org"


@pytest.fixture(scope="module")
def before(relay) -> dict[str, Any]:
    return {"started": relay.started, "reloads": relay.logs().count("event=reloaded ")}


@pytest.fixture(scope="module", autouse=True)
def played(before, play, world) -> Any:
    """The device nas goes, the device scanner comes."""
    mailbox = world["relay_mailboxes"][0] | {"devices": [{"name": WORK}, {"name": "scanner"}]}
    return play("playbooks/relay.yml", relay_mailboxes=[mailbox])


def test_it_reloads_once_and_runs_on(relay, before, played) -> None:
    assert played.code == 0, played.tail
    assert relay.started == before["started"]
    assert relay.logs().count("event=reloaded ") == before["reloads"] + 1


def test_the_new_device_can_log_in(relay, goes_out) -> None:
    assert (relay.directory / "secrets/password_scanner").read_text() == relay.password("scanner")
    goes_out("scanner")


def test_the_one_that_is_gone_cannot(relay) -> None:
    refused = relay.submit("nas", "planted-device-password")
    assert refused.replied("535 5.7.8"), refused.transcript


def test_its_secret_is_gone_too(relay) -> None:
    assert not (relay.directory / "secrets/password_nas").exists()


def test_the_others_notice_nothing(goes_out) -> None:
    goes_out()


def test_another_run_has_nothing_to_do(relay, before, play, world) -> None:
    mailbox = world["relay_mailboxes"][0] | {"devices": [{"name": WORK}, {"name": "scanner"}]}
    again = play("playbooks/relay.yml", relay_mailboxes=[mailbox])
    assert (again.code, again.changed) == (0, 0), again.tail
    assert relay.logs().count("event=reloaded ") == before["reloads"] + 1
