"""Metrics for Prometheus. No address is in a label: whoever may scrape need not know who writes to whom.

Conventions: https://prometheus.io/docs/practices/naming/ (base units, `_total`, `_seconds`, `_bytes`).
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from relay_app.delivery.verdict import Outcome
from relay_app.identity.tokens import State

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds. A message of a few kB takes about one at Outlook."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is true at the moment of a scrape. Times are in seconds since the epoch; None: there is none."""

    connections: int = 0
    """Of clients to the relay."""
    upstream_connections: Mapping[str, int] = field(default_factory=dict)
    """To Outlook: `idle` and `busy`."""
    mailboxes: Mapping[State, int] = field(default_factory=dict)
    token_expiry: float | None = None
    """When the first of the access tokens ends."""
    certificate_expiry: float | None = None


class Metrics:
    """Counts, and writes everything down when asked. Counting takes a microsecond; any thread may do it.

    prometheus-client is loaded by the first scrape.
    """

    def __init__(self, version: str, gauges: Callable[[], Gauges]) -> None:
        """`gauges` is called by each scrape, in its thread."""
        self._version = version
        self._gauges = gauges
        self._lock = threading.Lock()
        self._messages: Counter[Outcome] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._octets = 0
        self._logins_refused = 0

    def observe(self, outcome: Outcome, seconds: float, size: int) -> None:
        """A message was answered, `seconds` after its last octet came. `size` in octets."""
        with self._lock:
            self._messages[outcome] += 1
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds
            if outcome is Outcome.ACCEPTED:
                self._octets += size

    def login_refused(self) -> None:
        """A client gave a wrong name or password, or was not even asked any more."""
        with self._lock:
            self._logins_refused += 1

    def render(self) -> bytes:
        """Everything, in Prometheus' text format (`CONTENT_TYPE`)."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    @cached_property
    def _registry(self) -> "CollectorRegistry":
        from prometheus_client import CollectorRegistry, ProcessCollector

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def describe(self) -> list["Metric"]:
        """Nothing: the registry need not scrape to find out the names."""
        return []

    def collect(self) -> Iterator["Metric"]:
        """What prometheus-client asks of a collector."""
        with self._lock:
            messages, buckets = dict(self._messages), list(self._buckets)
            seconds, octets, refused = self._seconds, self._octets, self._logins_refused
        yield from _counted(messages, buckets, seconds, octets, refused)
        yield from _gauged(self._gauges())
        yield _info(self._version)


def _counted(
    messages: Mapping[Outcome, int], buckets: list[int], seconds: float, octets: int, refused: int
) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    outcomes = CounterMetricFamily(
        "smtp_relay_messages", "Messages answered, by what became of them.", labels=["outcome"]
    )
    for outcome in Outcome:
        outcomes.add_metric([outcome.value], messages.get(outcome, 0))
    yield outcomes
    bounds = [*map(str, BUCKETS), "+Inf"]
    yield HistogramMetricFamily(
        "smtp_relay_message_seconds",
        "Seconds from the end of a message to its answer.",
        buckets=list(zip(bounds, accumulate(buckets), strict=True)),
        sum_value=seconds,
    )
    yield CounterMetricFamily("smtp_relay_message_bytes", "Size of the messages accepted.", value=octets)
    yield CounterMetricFamily(
        "smtp_relay_logins_refused", "Logins of clients that were refused.", value=refused
    )


def _gauged(now: Gauges) -> Iterator["Metric"]:
    from prometheus_client.core import GaugeMetricFamily

    yield GaugeMetricFamily("smtp_relay_connections", "Connections of clients.", value=now.connections)
    upstream = GaugeMetricFamily(
        "smtp_relay_upstream_connections", "Connections to Outlook.", labels=["state"]
    )
    for state in ("idle", "busy"):
        upstream.add_metric([state], now.upstream_connections.get(state, 0))
    yield upstream
    mailboxes = GaugeMetricFamily(
        "smtp_relay_mailboxes", "Mailboxes, by how their sign-in is doing.", labels=["state"]
    )
    for each in State:
        mailboxes.add_metric([each.name.lower()], now.mailboxes.get(each, 0))
    yield mailboxes
    expiries = (
        ("smtp_relay_token_expiry", "When the first access token ends.", now.token_expiry),
        ("smtp_relay_certificate_expiry", "When the TLS certificate ends.", now.certificate_expiry),
    )
    for name, text, moment in expiries:
        if moment is not None:
            yield GaugeMetricFamily(f"{name}_timestamp_seconds", text, value=moment)


def _info(version: str) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily("smtp_relay_build_info", "The program, always 1.", labels=["version"])
    info.add_metric([version], 1)
    return info
