"""Schemas made from dataclasses; values checked against schemas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.console import openapi, schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Inner:
    number: int


@dataclass
class Outer:
    text: str
    real: float
    flag: bool
    at: datetime | None
    day: date
    colours: tuple[Colour, ...]
    counts: Mapping[str, int]
    inner: Inner


def test_a_dataclass_becomes_a_schema() -> None:
    assert schema.of(Outer) == {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "real": {"type": "number"},
            "flag": {"type": "boolean"},
            "at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "day": {"type": "string", "format": "date"},
            "colours": {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "inner": {"$ref": "#/components/schemas/Inner"},
        },
        "required": ["text", "real", "flag", "at", "day", "colours", "counts", "inner"],
        "additionalProperties": False,
    }


GOOD = {"name": "scanner", "mailbox": "me@outlook.com", "senders": ["*@example.org"], "hourly_messages": 5}


def test_numbers_within_their_bounds() -> None:
    assert list(schema.problems(500, openapi.LIMIT)) == []
    assert list(schema.problems(501, openapi.LIMIT)) == [("", "must be from 1 to 500")]


def problems(value: object) -> list[tuple[str, str]]:
    return list(schema.problems(value, openapi.NEW_DEVICE))


def test_what_is_right_has_no_problems() -> None:
    assert problems(GOOD) == []
    assert problems(GOOD | {"foreign_from": "rewrite"}) == []


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"name": 5}, "/name", "must be a string"),
        ({"name": ""}, "/name", "must be 1 to 100 letters"),
        ({"name": "scanner\n"}, "/name", "must be 1 to 100 letters"),
        ({"name": "x" * 101}, "/name", "at most 100 characters"),
        ({"mailbox": "me"}, "/mailbox", "must be an e-mail address"),
        ({"senders": "x"}, "/senders", "must be an array"),
        ({"senders": ["a@example.org"] * 101}, "/senders", "at most 100 items"),
        ({"senders": ["a@example.org", "x"]}, "/senders/1", "must be an address, or *@domain"),
        ({"foreign_from": "never"}, "/foreign_from", "one of refuse, rewrite"),
        ({"hourly_messages": -1}, "/hourly_messages", "from 0 to"),
        ({"hourly_messages": 1.5}, "/hourly_messages", "must be an integer"),
        ({"hourly_messages": True}, "/hourly_messages", "must be an integer"),
        ({"password": "x"}, "", "something unknown"),
    ],
)
def test_problems_are_named(change, pointer, words) -> None:
    found = problems(GOOD | change)
    assert [each[0] for each in found] == [pointer]
    assert words in found[0][1]


def test_all_problems_are_named() -> None:
    assert problems({"senders": [1]}) == [
        ("/name", "is missing"),
        ("/mailbox", "is missing"),
        ("/senders/0", "must be a string"),
    ]
    assert problems([]) == [("", "must be an object")]


TEXTS = (
    st.sampled_from(["scanner", "a@b", "*@b", "refuse", "x y", "", "é", "a\n", "a@b@c", "https://a/b"])
    | st.text()
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "mailbox", "senders", "foreign_from", "hourly_messages", "x"]), VALUES
    )
    | VALUES
)
def test_the_check_agrees_with_json_schema(value) -> None:
    assert (problems(value) == []) is jsonschema_rs.is_valid(openapi.NEW_DEVICE, value)


@given(TEXTS)
def test_it_agrees_about_texts(value) -> None:
    for each in (openapi.SEARCH, *openapi.NEW_SIGN_IN["properties"].values()):
        assert (list(schema.problems(value, each)) == []) is jsonschema_rs.is_valid(each, value)
