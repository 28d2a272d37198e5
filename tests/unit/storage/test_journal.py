"""The journal: what goes in, what is found."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from relay_app.errors import StoreError
from relay_app.storage.journal import KEEP, Attempt, Hour, Journal
from relay_app.storage.schema import attempt, message, recipient
from relay_app.storage.store import Store

from .conftest import NOW, entry


@pytest.fixture
def journal(store: Store) -> Journal:
    return Journal(store)


def ids(found: list) -> list[str]:
    return [each.id for each in found]


def test_gives_back_what_was_recorded(journal: Journal) -> None:
    recorded = entry(
        recipients=("b@example.org", "a@example.org", "b@example.org"),
        outcome="refused",
        reply="550 5.7.1 No",
        sentence="Why.",
        action="Do.",
        cause="sender-denied",
        seconds=0.125,
    )
    journal.record(recorded)
    assert journal.message("id1") == recorded
    assert journal.recent(10) == [recorded]
    assert journal.message("id2") is None


def test_what_the_relay_itself_refused(journal: Journal) -> None:
    refused = entry(sender="", recipients=(), message_id="", size=0, outcome="refused", reply="554 5.6.0 No")
    journal.record(refused)
    assert journal.message("id1") == refused


def test_later_attempts_are_added(journal: Journal) -> None:
    first, second = entry(outcome="deferred"), entry(at=NOW + timedelta(minutes=5))
    journal.record(first)
    journal.record(second)
    both = journal.message("id1")
    assert both is not None
    assert both.attempts == (*first.attempts, *second.attempts)
    assert both.recipients == first.recipients


def test_recorded_again_it_is_there_once(journal: Journal) -> None:
    """It may not be known whether a commit reached the database that was lost in that moment."""
    batch = [entry("id1"), entry("id2"), entry("id2", at=NOW + timedelta(hours=1))]
    journal.record(*batch)
    journal.record(*batch)
    assert sorted(ids(journal.recent(10))) == ["id1", "id2"]
    assert [len(each.attempts) for each in sorted(journal.recent(10), key=lambda e: e.id)] == [1, 2]


def test_all_or_none(journal: Journal) -> None:
    with pytest.raises(IntegrityError):
        journal.record(entry("id1"), entry("id2", reply=None))
    assert journal.recent(10) == []
    journal.record()


def test_what_strangers_said_can_be_recorded(journal: Journal) -> None:
    odd = "a\0b\udcff" * 3000
    journal.record(entry(sender=odd, recipients=(odd,), message_id=odd, reply=odd, client=odd))
    (stored,) = journal.recent(1)
    assert stored.sender.startswith("a?b?a?b?")
    assert len(stored.recipients[0]) == 512


def test_recent_are_the_newest_first(journal: Journal) -> None:
    for number in range(5):
        journal.record(entry(f"id{number}", received=NOW + timedelta(minutes=number)))
    assert ids(journal.recent(3)) == ["id4", "id3", "id2"]
    assert journal.recent(0) == []


@pytest.mark.parametrize(
    "text",
    [
        "one",
        "ONE@mail",
        "<abc.1@mail.example>",
        "abc.1@mail.example",
        "  one@example.org ",
        "<one@example.org>",
    ],
)
def test_find(journal: Journal, text: str) -> None:
    journal.record(
        entry("one", message_id="<abc.1@mail.example>", recipients=("x@example.net", "One@mail.example.org")),
        entry("two", message_id="abc.1@mail.example", recipients=("oNe@example.org", "one@mail.example")),
        entry("three", recipients=("nobody@example.net",)),
    )
    found = {
        "one": ["one", "two"],
        "ONE@mail": ["one", "two"],
        "<abc.1@mail.example>": ["one", "two"],
        "abc.1@mail.example": ["one", "two"],
        "  one@example.org ": ["two"],
        "<one@example.org>": ["two"],
    }
    assert ids(journal.find(text, 10)) == found[text]


def test_find_by_sender_newest_first(journal: Journal) -> None:
    for number in range(5):
        journal.record(
            entry(f"id{number}", sender=f"S{number}@example.com", received=NOW + timedelta(hours=number))
        )
    assert ids(journal.find("s3@EXAMPLE.com", 10)) == ["id3"]
    assert ids(journal.find("@example.com", 2)) == ["id4", "id3"]


def test_an_id_is_found_whole_only(journal: Journal) -> None:
    journal.record(entry("20300102-abc", message_id="<20300102@mail.example>"))
    assert ids(journal.find("20300102-abc", 10)) == ["20300102-abc"]
    assert journal.find("20300102", 10) == []


@pytest.mark.parametrize("text", ["", "  ", "<>", "%", "_", "a%c", "a_c", "\\", "/", "\0", "*", "[a-z]"])
def test_wildcards_are_letters(journal: Journal, text: str) -> None:
    journal.record(entry("id1", sender="abc@example.org", recipients=("axc@example.org",)))
    assert journal.find(text, 10) == []


@pytest.mark.parametrize(
    "address", ["a%b@example.org", "a_b@example.org", "a\\b@example.org", "a/b@example.org"]
)
def test_wildcards_are_found_as_letters(journal: Journal, address: str) -> None:
    journal.record(entry("odd", recipients=(address,)), entry("even", recipients=("axb@example.org",)))
    assert ids(journal.find(address[:3], 10)) == ["odd"]


@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        "x'; DROP TABLE message; --",
        '" OR 1=1 --',
        "x') UNION SELECT * FROM blob --",
        ":x",
        "%(x)s",
    ],
)
def test_injection_finds_and_changes_nothing(journal: Journal, text: str) -> None:
    journal.record(entry())
    assert journal.find(text, 10) == []
    assert journal.message(text) is None
    assert ids(journal.recent(10)) == ["id1"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(exclude_categories=()), max_size=700))
def test_any_text_can_be_searched_for(journal: Journal, text: str) -> None:
    assert journal.find(text, 10) == []


def test_hours(journal: Journal) -> None:
    last = NOW.replace(minute=0)
    journal.record(
        entry("a", received=last),
        entry("b", received=last + timedelta(minutes=59, seconds=59), outcome="refused"),
        entry("c", received=last),
        entry("d", received=last - timedelta(microseconds=1), outcome="deferred"),
        entry("e", received=last - timedelta(hours=23)),
        entry("too old", received=last - timedelta(hours=23, microseconds=1)),
        entry("future", received=last + timedelta(hours=1)),
    )
    journal.record(entry("d", at=NOW))  # it was accepted later
    hours = journal.hours(NOW)
    assert [each.hour for each in hours] == [last - timedelta(hours=number) for number in range(23, -1, -1)]
    assert hours[-1] == Hour(last, {"accepted": 2, "refused": 1})
    assert hours[-2] == Hour(last - timedelta(hours=1), {"accepted": 1})
    assert hours[0].counts == {"accepted": 1}
    assert all(each.counts == {} for each in hours[1:-2])


def test_purge_forgets_all_of_a_message(journal: Journal, store: Store) -> None:
    journal.record(
        entry("old", received=NOW - KEEP - timedelta(seconds=1)),
        entry("kept", received=NOW - KEEP),
    )
    assert journal.purge(NOW - KEEP) == 1
    assert journal.purge(NOW - KEEP) == 0
    with store.reading() as connection:
        for table in (message, recipient, attempt):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 1
    assert ids(journal.recent(10)) == ["kept"]


def test_a_store_that_is_out_of_order(journal: Journal, store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE attempt")
    for use in (
        lambda: journal.record(entry()),
        lambda: journal.recent(1),
        lambda: journal.hours(NOW),
    ):
        with pytest.raises(StoreError):
            use()


def test_attempts_have_no_other_fields_than_the_table() -> None:
    assert {*Attempt.__slots__, "message", "number"} == set(attempt.columns.keys())


def test_is_there_after_a_restart(url: str, tmp_path: Path) -> None:
    first = Store.open(url, tmp_path)
    Journal(first).record(entry())
    first.close()
    second = Store.open(url, tmp_path)
    assert ids(Journal(second).recent(1)) == ["id1"]
    second.close()
