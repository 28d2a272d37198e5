"""After a restart of the engine the relay is back, by itself."""

from __future__ import annotations

from harness.programs import wait_until


def test_it_is_the_same_container_started_anew(relay, noted) -> None:
    container, since = relay.started
    assert container == noted["Id"]
    assert since > noted["State"]["StartedAt"]


def test_it_answers_and_mail_goes_out(relay, goes_out) -> None:
    wait_until(relay.answers, "the relay answers", timeout=60)
    goes_out()


def test_the_journal_is_still_there(relay) -> None:
    subjects = [message["message_id"] for message in relay.api("messages?limit=50")["messages"]]
    assert len(subjects) >= 4, "those of the tests before"
