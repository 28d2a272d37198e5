"""A new image is deployed while mail comes in. What was promised with a 250 has arrived, once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest
from harness.programs import wait_until
from harness.submitter import Submitter

WORK = "office@example.org"


@dataclass(frozen=True)
class Upgraded:
    """What there was before, how it went, and what arrived meanwhile."""

    image_before: str
    journal_before: set[str]
    played: Any
    began: float
    ended: float
    clients: list[Submitter]
    arrived: list[bytes]


@pytest.fixture(scope="module")
def upgraded(relay, play, places) -> Upgraded:
    from sandbox.client import Control

    outlook = Control(f"http://127.0.0.1:{places['sandbox_control_port']}")
    outlook.limits(messages_per_minute=0, recipients_per_day=0)
    journal = set(sorted(relay.journal())[-10:])
    before = relay.image
    clients = [Submitter(relay.port, WORK, relay.password()) for _ in range(2)]
    enough = threading.Event()
    threads = [threading.Thread(target=client.run, args=[enough]) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(client.moments for client in clients), "mail comes in")
        began = time.monotonic()
        played = play("playbooks/image.yml", image_tag="1.0.1")
        if played.code == 0:
            played = play("playbooks/relay.yml", image_tag="1.0.1")
        ended = time.monotonic()
        bound = ended + 30
        while any(client.moments[-1:] < [ended + 1] for client in clients) and time.monotonic() < bound:
            enough.wait(0.1)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    promised = sum(len(client.promised) for client in clients)
    arrived = [message.content or b"" for message in outlook.messages(wait_for=promised, timeout=60)]
    outlook.reset()
    outlook.close()
    return Upgraded(before, journal, played, began, ended, clients, arrived)


def test_the_new_image_runs(relay, upgraded) -> None:
    assert upgraded.played.code == 0, upgraded.played.tail
    assert relay.image.endswith(":1.0.1")
    assert relay.image != upgraded.image_before
    assert relay.inspect(relay.name)["Config"]["Labels"]["org.opencontainers.image.version"] == "1.0.1"


def test_mail_was_handed_in_before_and_after_and_refused_meanwhile(upgraded) -> None:
    for client in upgraded.clients:
        assert client.moments[0] < upgraded.began
        assert client.moments[-1] > upgraded.ended
        assert client.turned_away
        assert all(upgraded.began < moment < upgraded.ended for moment in client.turned_away)
        assert len(client.promised) > 20


def test_each_promise_was_kept_and_none_twice(upgraded) -> None:
    promised = [subject for client in upgraded.clients for subject in client.promised]
    times = {
        subject: sum(subject.encode() in content for content in upgraded.arrived) for subject in promised
    }
    assert {subject: count for subject, count in times.items() if count != 1} == {}


def test_nobody_waited_long(upgraded) -> None:
    """The relay runs on until the new image is there, and all but the change of the container is done."""
    for client in upgraded.clients:
        gaps = [after - before for before, after in zip(client.moments, client.moments[1:], strict=False)]
        assert max(gaps) < (upgraded.ended - upgraded.began) / 2, (
            f"{len(client.turned_away)} times turned away"
        )


def test_the_journal_of_before_is_there(relay, upgraded) -> None:
    assert upgraded.journal_before
    for identifier in upgraded.journal_before:
        assert relay.api(f"messages/{identifier}")["id"] == identifier


def test_the_image_before_is_kept_for_a_way_back(engine, upgraded) -> None:
    assert upgraded.image_before in engine.images.get(upgraded.image_before).tags
