"""A mailbox that a person signs in: said when it is missing, and not lost with the vault's old key."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

PERSONAL = "me@outlook.com"
WORLD = "{{ hostvars['localhost']['sandbox_world'] }}"
MAILBOX = {
    "address": PERSONAL,
    "flow": "authorization_code",
    "tenant": "consumers",
    "client_id": "{{ hostvars['localhost']['sandbox_world']['public_client_id'] }}",
}


@pytest.fixture(scope="module")
def mailboxes(places) -> list[dict[str, Any]]:
    return [*places["relay_mailboxes"], MAILBOX]


@pytest.fixture(scope="module")
def state(relay) -> Any:
    """What the relay says of the mailbox."""
    return lambda: relay.api(f"mailboxes/{PERSONAL}")["state"]


def test_the_playbook_says_that_somebody_must_sign_in_and_where(play, relay, mailboxes, state) -> None:
    played = play("site.yml", relay_mailboxes=mailboxes)
    assert played.code == 2, played.tail
    assert f"now waits for you: {PERSONAL} must be signed in, once. Open {relay.console}," in played.text
    assert f"docker exec -it {relay.name} smtp-relay login" in played.text
    assert state() == "sign-in needed"


def test_after_that_verify_is_content(play, relay, outlook, mailboxes) -> None:
    token = outlook.refresh_token(PERSONAL, outlook.world().public_client_id)
    command = ["docker", "exec", "-i", relay.name, "smtp-relay", "login", PERSONAL, "--refresh-token", "-"]
    subprocess.run(command, input=token.encode(), check=True, capture_output=True, timeout=60)
    played = play("playbooks/verify.yml", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    assert f"Username: {PERSONAL}" in played.text
    assert token not in played.output


def test_an_interrupted_change_of_the_vaults_key_is_finished_by_the_next_run(
    play, relay, mailboxes, state, goes_out
) -> None:
    before = relay.kept()
    with play.begun("playbooks/rotate.yml", rotate="vault_key", relay_mailboxes=mailboxes) as playing:
        playing.wait_for("Rekey | Stop the relay")
        assert playing.interrupt().code != 0
    assert relay.kept()["vault_key"] == before["vault_key"], "it was interrupted too late to show anything"

    played = play("playbooks/relay.yml", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    after = relay.kept()
    assert after["vault_key"] != before["vault_key"]
    assert after.keys() == before.keys()
    assert state() == "ok"
    goes_out(PERSONAL, sender=PERSONAL)


def test_the_vaults_key_is_replaced_and_the_sign_in_stays(play, relay, mailboxes, state, goes_out) -> None:
    before = relay.kept()
    played = play("playbooks/rotate.yml", rotate="vault_key", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    after = relay.kept()
    assert {name for name in before if before[name] != after[name]} == {"vault_key"}
    assert (relay.directory / "secrets/vault_key").read_text() == after["vault_key"]
    assert not (relay.directory / "secrets/vault_key_next").exists()
    assert state() == "ok"
    goes_out(PERSONAL, sender=PERSONAL)
    for key in (before["vault_key"], after["vault_key"]):
        assert key not in played.output


def test_a_new_relay_password_is_good_and_the_old_one_is_not(play, relay, mailboxes, goes_out) -> None:
    before, started = relay.kept(), relay.started
    played = play("playbooks/rotate.yml", rotate="relay_password", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    after = relay.kept()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"relay_password_office-example-org", "relay_password_me-outlook-com"}
    assert relay.started == started, "a reload is enough"
    refused = relay.submit(password=before["relay_password_office-example-org"])
    assert refused.replied("535 5.7.8"), refused.transcript
    goes_out()
    goes_out("nas", "planted-device-password")
    for name in changed:
        assert before[name] not in played.output
        assert after[name] not in played.output
