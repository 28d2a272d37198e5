"""A mailbox that a person signs in is not lost with the vault's old key; passwords are replaced."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import requests

PERSONAL = "me@outlook.com"


@pytest.fixture(scope="module")
def mailboxes(world, outlook) -> list[dict[str, Any]]:
    client_id = outlook.world().public_client_id
    more = {"flow": "authorization_code", "tenant": "consumers", "client_id": client_id}
    return [*world["relay_mailboxes"], {"address": PERSONAL} | more]


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
    # What the playbook has told to do, with a token instead of a browser.
    command = ["docker", "exec", "-i", relay.name, "smtp-relay", "login", PERSONAL, "--refresh-token", "-"]
    subprocess.run(command, input=token.encode(), check=True, capture_output=True, timeout=60)
    played = play("playbooks/verify.yml", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    assert f"Username: {PERSONAL}" in played.text
    assert token not in played.output


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_vaults_key_is_replaced_and_the_sign_in_stays(
    play, relay, mailboxes, state, goes_out, interrupted: bool
) -> None:
    before = relay.kept()
    if interrupted:
        change = {"rotate": "vault_key", "relay_mailboxes": mailboxes}
        play.interrupted("Ensure the vault is encrypted with the new key", "playbooks/rotate.yml", **change)
        assert relay.kept()["vault_key"] == before["vault_key"], (
            "it was interrupted too late to show anything"
        )
        played = play("playbooks/relay.yml", relay_mailboxes=mailboxes)
    else:
        played = play("playbooks/rotate.yml", rotate="vault_key", relay_mailboxes=mailboxes)

    assert played.code == 0, played.tail
    after = relay.kept()
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {"vault_key"}
    assert relay.read("secrets/vault_key") == after["vault_key"]
    assert relay.files("-name", "vault_key_next") == []
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


def logs_in(console: str, password: str) -> bool:
    """Whether a browser gets into the console with it."""
    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(f"{console}/login", timeout=30).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token, page
        form = {"csrf_token": token[1], "password": password}
        answer = browser.post(f"{console}/login", data=form, allow_redirects=False, timeout=30)
    assert answer.status_code in (303, 403), answer.text
    return answer.status_code == 303


def test_a_new_console_password_is_good_and_the_old_one_is_not(play, relay, mailboxes) -> None:
    before = relay.kept()
    assert logs_in(relay.console, before["console_password"])
    played = play("playbooks/rotate.yml", rotate="console_password", relay_mailboxes=mailboxes)
    assert played.code == 0, played.tail
    after = relay.kept()
    assert {name for name in before if before[name] != after[name]} == {"console_password"}
    assert not logs_in(relay.console, before["console_password"])
    assert logs_in(relay.console, after["console_password"])
    for kept in (before, after):
        assert kept["console_password"] not in played.output
