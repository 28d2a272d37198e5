"""Alerts that reach a real webhook, through Apprise."""

import json
import secrets
import threading
import time

import pytest
import structlog

from relay_app.ops import sender
from relay_app.ops.alerts import Alerts, NoAlerts, send_test
from relay_app.ops.incidents import Incidents

HOUR, DAY = 3600, 86_400


@pytest.fixture(autouse=True)
def _load_anew():
    sender._load.cache_clear()


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def start(store, clock):
    """Make alerts for these URLs; they are closed after the test."""
    made = []

    def build(*urls):
        made.append(Alerts(urls, store=store, origin="relay.example.org", clock=clock))
        return made[-1]

    yield build
    for each in made:
        each.close(20)


def until(condition):
    """Wait for what nobody announces."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def begin(alerts, key="sign-in:me@outlook.com", **options):
    alerts.begin(key, "Sign in again", "Go to the console.", **options)


def end(alerts, key="sign-in:me@outlook.com"):
    alerts.end(key, "Signed in again", "Mail flows.")


def kept(store):
    """Wait until the store has it that everything said was heard."""

    def condition():
        found = json.loads(store.data)["incidents"] if store.data else []
        return bool(found) and not any(item["unheard"] for item in found)

    store.wait_for(condition)


def test_begins_and_ends(start, webhook):
    alerts = start(webhook.url)
    assert alerts.configured
    begin(alerts)
    begin(alerts)
    assert webhook.titles(1) == ["Sign in again"]
    assert webhook.messages[0]["message"] == "Go to the console.\n\nFrom the SMTP relay on relay.example.org."
    assert alerts.open() == ["sign-in:me@outlook.com"]
    end(alerts)
    end(alerts)
    assert webhook.titles(2) == ["Sign in again", "Signed in again"]
    assert alerts.open() == []


def test_reminders_under_a_moved_clock(start, webhook, clock):
    alerts = start(webhook.url)
    begin(alerts)
    webhook.titles(1)
    for count, seconds in enumerate((HOUR, 5 * HOUR, 18 * HOUR, 2 * DAY, 7 * DAY), 2):
        clock.now += seconds
        alerts.look()
        assert webhook.titles(count)[-1] == "Still: Sign in again"
    assert "for 10 days." in webhook.messages[-1]["message"]


def test_the_thread_wakes_by_itself(webhook, store):
    alerts = Alerts([webhook.url], store=store, origin="relay.example.org")
    try:
        begin(alerts, settle=0.01)
        assert webhook.titles(1) == ["Sign in again"]
    finally:
        alerts.close(20)


def test_settling(start, webhook, clock):
    alerts = start(webhook.url)
    begin(alerts, "brief", settle=60)
    begin(alerts, "lasting", settle=60)
    end(alerts, "brief")
    clock.now += 60
    alerts.look()
    assert webhook.titles(1) == ["Sign in again"]
    assert alerts.open() == ["lasting"]


def test_a_restart_sends_nothing_again(start, webhook, store, clock):
    alerts = start(webhook.url)
    begin(alerts)
    webhook.titles(1)
    kept(store)
    alerts.close(20)
    clock.now += 60
    alerts = start(webhook.url)
    begin(alerts)
    end(alerts)
    assert webhook.titles(2) == ["Sign in again", "Signed in again"]


def test_a_restart_makes_up_for_what_nobody_heard(start, webhook, store, clock):
    webhook.status = 500
    alerts = start(webhook.url)
    begin(alerts)
    webhook.wait_for(lambda: webhook.attempts == 1)
    alerts.close(20)
    webhook.status = 200
    alerts = start(webhook.url)
    begin(alerts)
    assert webhook.titles(1) == ["Still: Sign in again"]


def test_a_channel_that_hangs_delays_no_other(start, webhook, another_webhook):
    webhook.open.clear()
    alerts = start(webhook.url, another_webhook.url)
    begin(alerts)
    webhook.wait_for(lambda: webhook.attempts == 1)
    end(alerts)
    assert another_webhook.titles(2)[-1] == "Signed in again"
    assert webhook.messages == []


def test_a_channel_that_fails(start, webhook, another_webhook, clock, logs, store):
    webhook.status = 503
    secret = secrets.token_hex(8)
    alerts = start(f"{webhook.url}/{secret}?+key={secret}", another_webhook.url)
    begin(alerts)
    another_webhook.titles(1)
    webhook.wait_for(lambda: webhook.attempts == 1)
    kept(store)
    end(alerts)
    another_webhook.titles(2)
    until(lambda: [entry["event"] for entry in logs] == ["alert_channel_failing"])
    webhook.status = 200
    clock.now += 30
    alerts.look()
    assert webhook.titles(1) == ["Signed in again"]  # what was to be said before is out of date
    alerts.close(20)
    assert [entry["event"] for entry in logs] == ["alert_channel_failing", "alert_channel_recovered"]
    assert logs[0]["channel"] == "1 (json)"
    assert logs[0]["reason"] == "the service answered with HTTP status 503"
    assert secret not in str(logs)
    assert secret not in str(webhook.messages + another_webhook.messages)
    assert secret.encode() not in store.data


def test_saved_rubbish(start, webhook, store, logs):
    store.data = b"rubbish"
    begin(start(webhook.url))
    assert webhook.titles(1) == ["Sign in again"]
    assert [entry["event"] for entry in logs] == ["alert_state_lost"]


def test_a_store_that_fails(start, webhook, store, logs, clock):
    store.error = OSError("disk full")
    alerts = start(webhook.url)
    begin(alerts)
    assert webhook.titles(1) == ["Sign in again"]
    store.wait_for(lambda: store.attempts >= 2)  # for the message, and for its being heard
    store.error = None
    alerts.look()
    kept(store)
    alerts.close(20)
    events = [entry["event"] for entry in logs]
    assert events == ["alert_state_lost", "alert_state_not_saved"]
    assert Incidents(store.data).open() == ["sign-in:me@outlook.com"]


def test_closing_twice_and_speaking_to_the_dead(start, webhook):
    alerts = start(webhook.url)
    alerts.close(20)
    begin(alerts)
    alerts.close(20)
    assert webhook.messages == []


def test_no_alerts():
    alerts = NoAlerts()
    begin(alerts, settle=1)
    end(alerts)
    alerts.close()
    assert not alerts.configured


def test_send_test(webhook, another_webhook):
    another_webhook.status = 404
    secret = secrets.token_hex(8)
    results = send_test(
        [webhook.url, f"{another_webhook.url}/{secret}", f"nothing://{secret}"], origin="relay.example.org"
    )
    assert [result.channel for result in results] == ["1 (json)", "2 (json)", "3 (nothing)"]
    assert results[0].failure == ""
    assert results[1].failure == "the service answered with HTTP status 404"
    assert "Apprise does not understand this URL" in results[2].failure
    assert webhook.titles(1) == ["Test: alerts of the SMTP relay reach you"]
    assert "relay.example.org" in webhook.messages[0]["message"]
    assert secret not in str(results)
