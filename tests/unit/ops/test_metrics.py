"""What Prometheus reads."""

import re
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay_app.delivery.verdict import Outcome
from relay_app.identity.tokens import State
from relay_app.ops.metrics import CONTENT_TYPE, Gauges, Metrics


def read(metrics):
    """Sample values by name and labels, as Prometheus' own parser finds them."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


@pytest.fixture
def metrics():
    return Metrics("1.2.3", Gauges)


def test_nothing_happened_yet(metrics):
    found = read(metrics)
    for outcome in ("accepted", "refused", "deferred", "uncertain"):
        assert found["smtp_relay_messages_total", ("outcome", outcome)] == 0
    for state in ("starting", "ok", "sign_in_needed", "failing"):
        assert found["smtp_relay_mailboxes", ("state", state)] == 0
    assert found["smtp_relay_message_seconds_count",] == 0
    assert found["smtp_relay_build_info", ("version", "1.2.3")] == 1
    assert ("smtp_relay_token_expiry_timestamp_seconds",) not in found
    assert ("smtp_relay_certificate_expiry_timestamp_seconds",) not in found


def test_messages(metrics):
    metrics.observe(Outcome.ACCEPTED, 0.1, 1000)
    metrics.observe(Outcome.ACCEPTED, 2.0, 500)
    metrics.observe(Outcome.DEFERRED, 1000.0, 7)
    found = read(metrics)
    assert found["smtp_relay_messages_total", ("outcome", "accepted")] == 2
    assert found["smtp_relay_messages_total", ("outcome", "deferred")] == 1
    assert found["smtp_relay_message_bytes_total",] == 1500
    assert found["smtp_relay_message_seconds_sum",] == pytest.approx(1002.1)
    assert found["smtp_relay_message_seconds_count",] == 3
    buckets = {
        bound: found["smtp_relay_message_seconds_bucket", ("le", bound)]
        for bound in ("0.1", "2.5", "300.0", "+Inf")
    }
    assert buckets == {"0.1": 1, "2.5": 2, "300.0": 2, "+Inf": 3}


def test_logins(metrics):
    metrics.login_refused()
    metrics.login_refused()
    assert read(metrics)["smtp_relay_logins_refused_total",] == 2


def test_gauges_are_asked_at_each_scrape():
    now = Gauges()
    metrics = Metrics("1", lambda: now)
    metrics.render()
    now = Gauges(
        connections=3,
        upstream_connections={"idle": 1, "busy": 2},
        mailboxes={State.OK: 4, State.SIGN_IN_NEEDED: 1},
        token_expiry=1.5e9,
        certificate_expiry=1.75e9,
    )
    found = read(metrics)
    assert found["smtp_relay_connections",] == 3
    assert found["smtp_relay_upstream_connections", ("state", "idle")] == 1
    assert found["smtp_relay_upstream_connections", ("state", "busy")] == 2
    assert found["smtp_relay_mailboxes", ("state", "ok")] == 4
    assert found["smtp_relay_mailboxes", ("state", "sign_in_needed")] == 1
    assert found["smtp_relay_token_expiry_timestamp_seconds",] == 1.5e9
    assert found["smtp_relay_certificate_expiry_timestamp_seconds",] == 1.75e9


def test_names_follow_the_conventions(metrics):
    text = metrics.render().decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"(smtp_relay|process)_[a-z_]+", family.name)
        assert family.documentation
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_prometheus_client_is_loaded_by_the_first_scrape(metrics, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics.observe(Outcome.ACCEPTED, 0.1, 1)
    with pytest.raises(ImportError):
        metrics.render()
