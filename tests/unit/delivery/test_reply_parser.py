"""Replies from bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.delivery.reply_parser import MAX_LINE, MAX_LINES, ProtocolError, ReplyParser
from relay_app.mail.reply import Reply


def parse(*pieces: bytes) -> list[Reply]:
    parser = ReplyParser()
    replies = []
    for piece in pieces:
        parser.feed(piece)
        while reply := parser.next_reply():
            replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (b"250 2.1.0 Sender OK\r\n", Reply(250, "2.1.0", "Sender OK")),
        (b"250-first\r\n250-\r\n250 last\r\n", Reply(250, "", "first\n\nlast")),
        (b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", Reply(550, "5.1.1", "no\nsuch user")),
        (b"354\r\n", Reply(354, "", "")),
        (b"250 bare line feed\n", Reply(250, "", "bare line feed")),
        ("250 gr\u00fc\u00df\r\n".encode(), Reply(250, "", "gr\u00fc\u00df")),
        (b"250 \xff\r\n", Reply(250, "", "\ufffd")),
    ],
)
def test_one_reply(wire, reply):
    assert parse(wire) == [reply]


def test_several_replies_in_one_piece():
    assert parse(b"250 a\r\n250 b\r\n354 c\r\n") == [
        Reply(250, "", "a"),
        Reply(250, "", "b"),
        Reply(354, "", "c"),
    ]


@pytest.mark.parametrize("wire", [b"25", b"250-a\r\n", b"250-a\r\n250"])
def test_an_unfinished_reply_waits_for_its_rest(wire):
    parser = ReplyParser()
    assert parser.empty
    parser.feed(wire)
    assert parser.next_reply() is None
    assert not parser.empty


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"hello\r\n",
        b"25 x\r\n",
        b"150 too early\r\n",
        b"650 too high\r\n",
        b"250_x\r\n",
        b"2500 x\r\n",
        b"250 a\rb\r\n",
        b"250 a\0b\r\n",
        b"250-a\r\n251 b\r\n",
        b"\x16\x03\x01\x02\x00\r\n",
    ],
)
def test_garbage(wire):
    with pytest.raises(ProtocolError):
        parse(wire)


def test_the_longest_line_and_one_too_long():
    text = b"x" * (MAX_LINE - len(b"250 \r\n"))
    assert parse(b"250 " + text + b"\r\n") == [Reply(250, "", text.decode())]
    with pytest.raises(ProtocolError, match="more than 12288 octets"):
        parse(b"250 x" + text + b"\r\n")
    with pytest.raises(ProtocolError, match="more than 12288 octets"):
        parse(b"2" * MAX_LINE)


def test_the_longest_reply_and_one_too_long():
    assert len(parse(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")) == 1
    with pytest.raises(ProtocolError, match="more than 100 lines"):
        parse(b"250-x\r\n" * MAX_LINES + b"250 x\r\n")


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_of_any_bytes_gives_the_same(wire, cuts):
    edges = [0, *sorted(cuts), len(wire)]
    pieces = [wire[start:end] for start, end in itertools.pairwise(edges)]

    def outcome(*chunks: bytes) -> list[Reply] | str:
        try:
            return parse(*chunks)
        except ProtocolError as error:
            return str(error)

    assert outcome(*pieces) == outcome(wire)
