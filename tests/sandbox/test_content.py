"""Pure functions on a message's content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.content import find_end, from_addresses, undo_dot_stuffing


def stuff(content: bytes) -> bytes:
    """RFC 5321 4.5.2, line by line: slow and plainly right."""
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in content.split(b"\r\n"))


@pytest.mark.parametrize("split", range(10))
def test_the_end_is_found_wherever_its_octets_were_torn_apart(split: int) -> None:
    octets = b"\r\nab\r\n.\r\n"
    arrived = bytearray(octets[:split])
    assert find_end(arrived, 0) == (-1 if split < 9 else 4)
    arrived += octets[split:]
    assert find_end(arrived, split if split < 9 else 0) == 4


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"\x00", b"\xff"])).map(b"".join))
def test_dot_stuffing_is_undone(content: bytes) -> None:
    assert undo_dot_stuffing(b"\r\n" + stuff(content)) == content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"From: a@example.org\r\n\r\nFrom: b@example.org\r\n", ["a@example.org"]),
        (
            b'from: "x, y" <a@example.org>,\r\n b@example.org\r\nTo: c@example.org\r\n\r\n',
            ["a@example.org", "b@example.org"],
        ),
        (b"From: a@example.org\r\nFrom: b@example.org\r\n\r\n", ["a@example.org", "b@example.org"]),
        (b"Subject: none\r\n\r\n", []),
        (b"From: a@example.org\r\n", ["a@example.org"]),
        (b"", []),
        (b"From:\r\n\r\n", []),
    ],
)
def test_from_addresses(content: bytes, expected: list[str]) -> None:
    assert from_addresses(content) == expected
