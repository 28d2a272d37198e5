"""How things are called, and how times and sizes are written, in English and German."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from relay_app.console import words
from relay_app.console.application import create_app
from relay_app.console.backend import HourCount, MailboxView
from relay_app.console.security import Access
from relay_app.identity.tokens import State
from relay_app.settings import Flow

NOW = datetime(2030, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "now", lambda: NOW)


@pytest.fixture
def request_in(backend):
    """Makes a request's surroundings: a language, and a zone that the browser has told."""

    @contextmanager
    def within(language: str = "en", zone: str = "UTC") -> Iterator[None]:
        app = create_app(backend, Access())
        with app.test_request_context(
            "/", headers={"Accept-Language": language, "Cookie": f"{words.ZONE_COOKIE}={zone}"}
        ):
            words.CATALOGUE.as_default()
            yield

    return within


def test_now_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert abs(words.now() - datetime.now(UTC)) < timedelta(minutes=1)


class TestTimes:
    @pytest.mark.parametrize(
        ("language", "value", "short", "full"),
        [
            ("en", NOW, "13:00", "4 March 2030, 13:00:00 CET"),
            ("de", NOW, "13:00", "4. März 2030, 13:00:00 CET"),
            ("en", NOW - timedelta(days=3), "1 Mar, 13:00", "1 March 2030, 13:00:00 CET"),
            ("de", NOW - timedelta(days=3), "1. März, 13:00", "1. März 2030, 13:00:00 CET"),
            ("en", NOW - timedelta(days=365), "4 Mar 2029, 13:00", "4 March 2029, 13:00:00 CET"),
            ("en", NOW - timedelta(hours=12, minutes=30), "00:30", "4 March 2030, 00:30:00 CET"),
            ("en", NOW - timedelta(hours=13, minutes=30), "3 Mar, 23:30", "3 March 2030, 23:30:00 CET"),
        ],
    )
    def test_moment(self, request_in, language, value, short, full) -> None:
        with request_in(language, "Europe/Berlin"):
            assert words.moment(value) == (
                f'<time datetime="{value.isoformat()}" title="{full}">{short}</time>'
            )

    @pytest.mark.parametrize("zone", ["", "Nowhere/Land", "../../etc/passwd", "a" * 100, "<b>"])
    def test_without_a_usable_zone_it_is_the_machines(self, request_in, zone) -> None:
        with request_in("en", zone):
            assert words.clock(NOW) == f"{NOW.astimezone():%H:%M}"

    def test_the_zone_has_a_name(self, request_in) -> None:
        with request_in("en", "Europe/Berlin"):
            assert words.zone_name() == "CET"

    def test_day(self, request_in) -> None:
        with request_in("en"):
            assert words.day(date(2030, 12, 24)) == "24 December 2030"
        with request_in("de"):
            assert words.day(date(2030, 12, 24)) == "24. Dezember 2030"

    @pytest.mark.parametrize(
        ("end", "days"),
        [
            (date(2030, 3, 4), 0),
            (date(2030, 3, 2), -2),
            (date(2030, 3, 11), 7),
        ],
    )
    def test_days_until(self, request_in, end, days) -> None:
        with request_in():
            assert words.days_until(end) == days

    def test_today_is_the_readers(self, request_in) -> None:
        with request_in("en", "Pacific/Auckland"):  # there it is the 5th already
            assert words.days_until(date(2030, 3, 5)) == 0


class TestAmounts:
    @pytest.mark.parametrize(
        ("octets", "english", "german"),
        [
            (999, "999 bytes", "999 Byte"),
            (1_000, "1 kB", "1 kB"),
            (999_000, "999 kB", "999 kB"),
            (3_456_789, "3.5 MB", "3,5 MB"),
        ],
    )
    def test_size(self, request_in, octets, english, german) -> None:
        with request_in("en"):
            assert words.size(octets) == english
        with request_in("de"):
            assert words.size(octets) == german

    @pytest.mark.parametrize(("value", "text"), [(0.04, "0,04 s"), (0.84, "0,8 s"), (61.2, "61,2 s")])
    def test_seconds(self, request_in, value, text) -> None:
        with request_in("de"):
            assert words.seconds(value) == text

    def test_an_hour(self, request_in) -> None:
        with request_in("de", "Europe/Berlin"):
            assert words.hour(HourCount(NOW, {"refused": 1, "accepted": 1200})) == (
                "13:00: 1.200 angenommen, 1 abgelehnt"
            )
            assert words.hour(HourCount(NOW, {})) == "13:00: keine Nachrichten"


class TestOutcomes:
    @pytest.mark.parametrize("key", ["accepted", "refused", "deferred", "uncertain"])
    def test_each_has_a_name_and_a_meaning(self, request_in, key) -> None:
        with request_in("en"):
            assert words.outcome(key) == key
            english = words.outcome_meaning(key)
        with request_in("de"):
            assert words.outcome(key) != key
            assert words.outcome_meaning(key) not in {"", english}

    def test_another_is_shown_as_it_is(self, request_in) -> None:
        with request_in("de"):
            assert (words.outcome("bounced"), words.outcome_meaning("bounced")) == ("bounced", "")


class TestStates:
    @pytest.mark.parametrize("state", State)
    def test_each_has_a_name_and_a_sentence(self, request_in, state) -> None:
        mailbox = MailboxView("me@outlook.com", Flow.DEVICE_CODE, state)
        with request_in("en"):
            english = words.state(mailbox), words.state_sentence(mailbox)
        with request_in("de"):
            german = words.state(mailbox), words.state_sentence(mailbox)
        assert all(english)
        assert all(one != other for one, other in zip(english, german, strict=True))

    def test_the_relays_own_sentence_says_more(self, request_in) -> None:
        mailbox = MailboxView(
            "me@outlook.com", Flow.DEVICE_CODE, State.FAILING, sentence="The client secret has expired."
        )
        with request_in("de"):
            assert words.state_sentence(mailbox) == "Der geheime Clientschlüssel ist abgelaufen."
