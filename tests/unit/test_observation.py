"""relay_app.observation: what is noted, with a real database and a real webhook."""

import asyncio
import http.server
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.errors import SignInNeeded
from relay_app.identity.tokens import Snapshot, State
from relay_app.inbound.report import Report
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Envelope
from relay_app.observation import Observation
from relay_app.settings import Flow, MailboxSettings, Settings, load
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import Journal
from relay_app.storage.journal_writer import JournalWriter
from relay_app.storage.store import Store

MAILBOX = MailboxSettings("me@outlook.com", Flow.AUTHORIZATION_CODE, "consumers", "app")
ACCEPTED = Verdict(Outcome.ACCEPTED, Reply(250, "2.0.0", "Taken"))
REFUSED = Verdict(Outcome.REFUSED, Reply(550, "5.7.1", "No"), upstream=False, key="relay-refused")


class Webhook(http.server.ThreadingHTTPServer):
    """Takes Apprise's json:// posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.titles: list[str] = []
        self.grown = threading.Condition()

    def wait_for(self, title: str) -> None:
        with self.grown:
            assert self.grown.wait_for(lambda: any(title in each for each in self.titles), 20), self.titles


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        webhook = cast("Webhook", self.server)
        with webhook.grown:
            webhook.titles.append(body["title"])
            webhook.grown.notify_all()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(
        {
            "CLIENT_ID": "00000000-0000-0000-0000-000000000001",
            "USER_EMAIL": MAILBOX.address,
            "RELAY_PASSWORD": secrets.token_urlsafe(12),
            "RELAY_HOSTNAME": "relay.example.org",
            "RELAY_DATA_DIR": str(tmp_path),
        }
    )


@dataclass
class World:
    """What an observation is built on."""

    store: Store
    writer: JournalWriter
    tokens: SimpleNamespace
    certificate: SimpleNamespace

    def observation(self, settings: Settings) -> Observation:
        upstream = SimpleNamespace(mailbox=MAILBOX, pool=SimpleNamespace(idle=2, in_use=1))
        return Observation(
            settings,
            store=self.store,
            writer=self.writer,
            tokens=cast("Any", {MAILBOX.address: self.tokens}),
            upstreams=cast("Any", {MAILBOX.address: upstream}),
            certificate=cast("Any", self.certificate),
            connections=lambda: 7,
        )

    def lose_the_sign_in(self) -> Snapshot:
        error = SignInNeeded("It has ended.", action="Sign in.", code="AADSTS50173")
        snapshot = Snapshot(MAILBOX.address, State.SIGN_IN_NEEDED, last_error=error)
        self.tokens.snapshot = lambda: snapshot
        return snapshot


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store.open("", tmp_path)
    writer = JournalWriter(Journal(store), StoredDevices(store))
    good = Snapshot(MAILBOX.address, State.OK, MAILBOX.address, 2_000_000_000.0)
    tokens = SimpleNamespace(snapshot=lambda: good, state=State.OK, expires_at=good.expires_at)
    certificate = SimpleNamespace(expires=datetime(2099, 1, 1, tzinfo=UTC), problem="")
    yield World(store, writer, tokens, certificate)
    writer.close(5)
    store.close()


def report(verdict: Verdict) -> Report:
    envelope = Envelope(MAILBOX.address, ("friend@example.net",))
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return Report("id1", now, "gmail", MAILBOX.address, "192.0.2.1", envelope, 1234, "<1@x>", verdict, 0.5)


async def test_a_message_goes_into_the_journal_and_the_metrics(world: World, settings: Settings) -> None:
    observation = world.observation(settings)
    observation.message(report(ACCEPTED))
    observation.message(replace(report(REFUSED), id="id2"))
    assert world.writer.flush(10)
    entry, other = Journal(world.store).find("<1@x>", 10)
    assert {entry.id, other.id} == {"id1", "id2"}
    [attempt] = (entry if entry.id == "id1" else other).attempts
    assert (attempt.outcome, attempt.reply, attempt.seconds) == ("accepted", "250 2.0.0 Taken", 0.5)
    text = observation.metrics.render().decode()
    assert 'smtp_relay_messages_total{outcome="accepted"} 1.0' in text
    assert 'smtp_relay_messages_total{outcome="refused"} 1.0' in text
    assert MAILBOX.address not in text


async def test_what_is_true_at_the_moment(world: World, settings: Settings) -> None:
    text = world.observation(settings).metrics.render().decode()
    assert "smtp_relay_connections 7.0" in text
    assert 'smtp_relay_upstream_connections{state="idle"} 2.0' in text
    assert 'smtp_relay_mailboxes{state="ok"} 1.0' in text
    assert "smtp_relay_token_expiry_timestamp_seconds 2e+09" in text
    assert "smtp_relay_certificate_expiry_timestamp_seconds 4.070908" in text


async def test_without_token_and_certificate_date(world: World, settings: Settings) -> None:
    world.tokens.expires_at = world.certificate.expires = None
    text = world.observation(settings).metrics.render().decode()
    assert "smtp_relay_token_expiry_timestamp_seconds " not in text
    assert "smtp_relay_certificate_expiry_timestamp_seconds " not in text


async def test_logins(world: World, settings: Settings) -> None:
    observation = world.observation(settings)
    device = replace(settings.devices[0], name="nas")
    StoredDevices(world.store).add(device, datetime.now(UTC))
    observation.login("nas")
    observation.login("")
    assert world.writer.flush(10)
    [stored] = StoredDevices(world.store).list()
    assert stored.last_seen is not None
    assert "smtp_relay_logins_refused_total 1.0" in observation.metrics.render().decode()


async def test_a_lost_sign_in_is_told_at_once_and_over_a_restart(
    world: World, settings: Settings, webhook: Webhook
) -> None:
    url = f"json://127.0.0.1:{webhook.server_port}/"
    settings = replace(settings, alert_urls=(url,), web_url="https://relay.example.org")
    good = world.tokens.snapshot
    first = world.observation(settings)
    watching = asyncio.create_task(first.run())
    await asyncio.sleep(0)
    first.tokens_changed(world.lose_the_sign_in())
    await asyncio.to_thread(webhook.wait_for, "Sign me@outlook.com in")
    watching.cancel()
    await asyncio.to_thread(first.close)

    world.tokens.snapshot = good
    second = world.observation(settings)
    watching = asyncio.create_task(second.run())
    await asyncio.to_thread(webhook.wait_for, "signed in again")
    watching.cancel()
    await asyncio.to_thread(second.close)
    assert len(webhook.titles) == 2


async def test_nobody_is_told_when_nothing_is_configured(world: World, settings: Settings) -> None:
    observation = world.observation(settings)
    world.lose_the_sign_in()
    watching = asyncio.create_task(observation.run())
    await asyncio.sleep(0)
    observation.tokens_changed(world.tokens.snapshot())
    watching.cancel()
    observation.close()
