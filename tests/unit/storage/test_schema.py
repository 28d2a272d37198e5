"""The columns' types, on both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, insert, select
from sqlalchemy.exc import StatementError

from relay_app.storage.schema import StrangersText, UtcDateTime
from relay_app.storage.store import Store

odd = Table("odd", MetaData(), Column("at", UtcDateTime), Column("text", StrangersText(20)))


@pytest.fixture
def table(store: Store) -> Store:
    with store.writing() as connection:
        odd.create(connection)
    return store


def there_and_back(store: Store, column: Column[object], value: object) -> object:
    with store.writing() as connection:
        connection.execute(odd.delete())
        connection.execute(insert(odd).values({column: value}))
        return connection.execute(select(column)).scalar_one()


def test_a_moment_comes_back_in_utc(table: Store) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    at = datetime(2030, 3, 31, 2, 30, 0, 123456, tzinfo=nepal)
    back = there_and_back(table, odd.c.at, at)
    assert back == at
    assert isinstance(back, datetime)
    assert back.tzinfo is UTC


def test_no_moment(table: Store) -> None:
    assert there_and_back(table, odd.c.at, None) is None


def test_a_moment_without_a_zone_is_a_bug(table: Store) -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        there_and_back(table, odd.c.at, datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None),
        ("", ""),
        ("plain", "plain"),
        ("\u00fc\U0001f600", "\u00fc\U0001f600"),
        ("a\0b", "a?b"),
        ("a\udcffb", "a?b"),
        ("x" * 30, "x" * 20),
    ],
)
def test_a_strangers_text(table: Store, text: str | None, stored: str | None) -> None:
    assert there_and_back(table, odd.c.text, text) == stored


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_stored(table: Store, text: str) -> None:
    there_and_back(table, odd.c.text, text)
