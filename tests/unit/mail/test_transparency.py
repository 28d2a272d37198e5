from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay_app.errors import SmtpRefusal
from relay_app.mail.transparency import check_octets, stuffed, unstuff

LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".a", b"a.", b"text", b"\0\xff"]) | st.binary(max_size=20)
)


def as_content(lines):
    return b"".join(line.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n" for line in lines)


@pytest.mark.parametrize("content", [b"", b"\r\n", b"a\r\n.\r\n\r\nb\r\n", b"a\x01\x0b\x0c\xff\r\n"])
def test_crlf_passes(content):
    check_octets(content)
    check_octets(bytearray(content))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\n", "LF without CR"),
        (b"a\n.\nMAIL FROM:<x>\r\n", "LF without CR"),
        (b"a\n.\r\n", "LF without CR"),
        (b"a\r\n.\n", "LF without CR"),
        (b"\n\r", "LF without CR"),
        (b"\r", "CR without LF"),
        (b"a\r.\r\n", "CR without LF"),
        (b"a\r\n.\r", "CR without LF"),
        (b"a\r\r\n", "CR without LF"),
    ],
)
def test_bare_line_endings_are_refused(content, found):
    with pytest.raises(SmtpRefusal, match=rf"^550 5\.6\.0 .*\({found}\)"):
        check_octets(content)


@pytest.mark.parametrize("content", [b"\0", b"a\0b\r\n", b"a\r\n\0.\r\nb\r\n", b"a\r\n.\0\r\n"])
def test_nul_is_refused(content):
    """A server that drops NULs would find CRLF.CRLF where we found none."""
    with pytest.raises(SmtpRefusal, match=r"^550 5\.6\.0 .*NUL"):
        check_octets(content)


@pytest.mark.parametrize(
    ("received", "content"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"..\r\n", b".\r\n"),
        (b".a\r\n..b\r\n...\r\nc.\r\n", b"a\r\n.b\r\n..\r\nc.\r\n"),
        (b"..\r\n..\r\n..\r\n", b".\r\n.\r\n.\r\n"),
    ],
)
def test_unstuff(received, content):
    assert unstuff(bytearray(received)) == content


@pytest.mark.parametrize("received", [b"a.\r\nb\r\n", b"..a\r\nb\r\n"])
def test_unstuff_copies_nothing_when_only_the_first_line_is_stuffed(received):
    content = bytearray(received)
    assert unstuff(content) is content


@given(LINES, st.lists(st.integers(0, 60), max_size=6), st.integers(1, 20))
@example([b".", b"."], [1, 2, 3, 4, 5], 1)
def test_stuffing_is_undone_by_unstuffing_however_it_is_cut(lines, cuts, chunk):
    content = as_content(lines)
    borders = [0, *sorted(cuts), len(content)]
    parts = [memoryview(content)[a:b] for a, b in pairwise(borders)]
    sent = b"".join(stuffed(parts, chunk))
    assert not sent.startswith(b".\r\n")
    assert b"\r\n.\r\n" not in sent
    assert unstuff(bytearray(sent)) == content


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        ([], b""),
        ([b"", bytearray()], b""),
        ([b"a"], b"a\r\n"),
        ([b"."], b"..\r\n"),
        ([b"a\r", b"\n.", b"b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n", b".\r\n"], b"a\r\n..\r\n"),
        ([b"a\r\n", b"", b".\r", b"\n.", b"\r", b"\n"], b"a\r\n..\r\n..\r\n"),
        ([b"a", b".b\r\n"], b"a.b\r\n"),
        ([b"a\r", b".\n"], b"a\r.\n\r\n"),
    ],
)
def test_stuffed(parts, sent):
    assert b"".join(stuffed(parts)) == sent


def test_stuffed_cuts_large_parts():
    pieces = list(stuffed([bytearray(b"x" * 100_000 + b"\r\n")]))
    assert [len(piece) for piece in pieces] == [65536, 34466]
