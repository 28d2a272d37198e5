from datetime import UTC, datetime, timedelta, timezone
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.errors import SmtpRefusal
from relay_app.mail.headers import (
    MAX_HEADER,
    Field,
    date_field,
    quote_display_names,
    split,
    trace_field,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_header_and_body():
    content = b"From: a@b.example\r\nSUBJECT : x\r\n\ty\r\n\r\nbody\r\n\r\nX: y\r\n"
    fields, body = split(content)
    assert fields == [
        Field(b"from", b"From: a@b.example\r\n"),
        Field(b"subject", b"SUBJECT : x\r\n\ty\r\n"),
    ]
    assert [field.value for field in fields] == [b" a@b.example\r\n", b" x\r\n\ty\r\n"]
    assert body == b"\r\nbody\r\n\r\nX: y\r\n"


def test_the_body_is_a_view_that_cannot_be_written():
    content = bytearray(b"A: b\r\n\r\nbody\r\n")
    body = split(content)[1]
    assert isinstance(body, memoryview)
    assert body.obj is content
    assert body.readonly


@pytest.mark.parametrize(
    ("content", "names", "body"),
    [
        (b"", [], b""),
        (b"A: b\r\n", [b"a"], b""),
        (b"\r\n", [], b"\r\n"),
        (b"\r\nbody\r\n", [], b"\r\nbody\r\n"),
        (b"\r\nA: b\r\n\r\nbody\r\n", [], b"\r\nA: b\r\n\r\nbody\r\n"),
        (b"A: b\r\n\r\n", [b"a"], b"\r\n"),
        # The first line that is no field ends the header, and an empty line goes before it.
        (b"Hello!\r\n", [], b"\r\nHello!\r\n"),
        (b"Hello!\r\n\r\nmore\r\n", [], b"\r\nHello!\r\n\r\nmore\r\n"),
        (b" x: y\r\nA: b\r\n\r\n", [], b"\r\n x: y\r\nA: b\r\n\r\n"),
        (
            b"A: b\r\nHello!\r\nFrom: evil@x.example\r\n\r\n",
            [b"a"],
            b"\r\nHello!\r\nFrom: evil@x.example\r\n\r\n",
        ),
        (b"A: b\r\nFrom evil: x\r\n", [b"a"], b"\r\nFrom evil: x\r\n"),
        ("A: b\r\nFr\u043em: x\r\n".encode(), [b"a"], "\r\nFr\u043em: x\r\n".encode()),
        (b"A: b\r\nFro\0m: x\r\n\r\n", [b"a"], b"\r\nFro\0m: x\r\n\r\n"),
        (b"A: b\r\n: x\r\n", [b"a"], b"\r\n: x\r\n"),
        (b"A: b\r\n\0\r\nFrom: x\r\n\r\n", [b"a"], b"\r\n\0\r\nFrom: x\r\n\r\n"),
        # Not to be had through DATA, but never a field.
        (b"A: b", [], b"\r\nA: b"),
        (b"A: b\nFrom: x\r\n", [], b"\r\nA: b\nFrom: x\r\n"),
        (b"A: b\rFrom: x\r\n", [], b"\r\nA: b\rFrom: x\r\n"),
        # A line of blanks continues the field: we see at least the fields that anybody sees.
        (b"A: b\r\n \r\nFrom: x\r\n\r\n", [b"a", b"from"], b"\r\n"),
    ],
)
def test_where_the_header_ends(content, names, body):
    fields, rest = split(content)
    assert [field.name for field in fields] == names
    assert rest == body


@pytest.mark.parametrize("content", [b"A: b\0\r\n\r\n", b"A: b\r\n c\0\r\nB: c\r\n"])
def test_nul_in_the_header_is_refused(content):
    with pytest.raises(SmtpRefusal, match=r"^550 5\.6\.0 .*NUL"):
        split(content)


def test_nul_in_the_body_is_not_ours_to_judge():
    assert split(b"A: b\r\n\r\n\0\r\n")[1] == b"\r\n\0\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"A: b\r\n" * MAX_HEADER,
        b"A: " + b"b" * MAX_HEADER + b"\r\n",
        b"A: b\r\n" + b" c\r\n" * MAX_HEADER,
        b"A: " + b"b" * (MAX_HEADER - 5) + b"\r\n c\r\n\r\n",
        b"A: " + b"b" * (MAX_HEADER - 5) + b"\r\n\r\n",
        b"x" * (MAX_HEADER + 1),
    ],
)
def test_a_header_that_is_too_large_is_refused(content):
    with pytest.raises(SmtpRefusal, match=r"^552 5\.3\.4 .*256 KB"):
        split(content)


def test_a_large_header_passes_and_a_large_body_without_a_header_too():
    fields, body = split(b"A: " + b"b" * (MAX_HEADER - 9) + b"\r\n\r\nbody\r\n")
    assert (len(fields), bytes(body)) == (1, b"\r\nbody\r\n")
    fields, body = split(b"Hello!\r\n" * MAX_HEADER)
    assert (fields, len(body)) == ([], 8 * MAX_HEADER + 2)


LINES = st.lists(
    st.sampled_from([b"A: b", b"From: x", b" folded", b"\t", b"", b"no field", b"B : c", b":", b"c:"])
    | st.binary(max_size=10).map(lambda line: line.translate(None, b"\r\n\0"))
)


@given(LINES)
def test_no_octet_is_lost_and_the_next_hop_sees_the_same_border(lines):
    content = b"".join(line + b"\r\n" for line in lines)
    fields, body = split(content)
    header = b"".join(field.raw for field in fields)
    assert content in (header + bytes(body), header + bytes(body[2:]))
    assert body == b"" or bytes(body[:2]) == b"\r\n"
    again, body_again = split(header + bytes(body))
    assert (again, bytes(body_again)) == (fields, bytes(body))


@pytest.mark.parametrize(
    ("field", "mended"),
    [
        (b"To: Scanner @ Office <a@b.example>\r\n", b'To: "Scanner @ Office" <a@b.example>\r\n'),
        (b"To: x@y <a@b>,z@y<c@d>\r\n", b'To: "x@y" <a@b>,"z@y" <c@d>\r\n'),
        (b"To: a@b,\r\n x@y <c@d>,\r\n\tE <e@f>\r\n", b'To: a@b,\r\n "x@y" <c@d>,\r\n\tE <e@f>\r\n'),
        (b"To: B\xfcro @ x <a@b>\r\n", b'To: "B\xfcro @ x" <a@b>\r\n'),
        (b'To: "a, b" <c@d>, x@y <a@b>\r\n', b'To: "a, b" <c@d>, "x@y" <a@b>\r\n'),
    ],
)
def test_unquoted_names_with_an_at_sign_are_quoted(field, mended):
    assert quote_display_names(field) == mended
    assert quote_display_names(mended) == mended


@pytest.mark.parametrize(
    "field",
    [
        b"To: a@b.example\r\n",
        b"To: <a@b.example>\r\n",
        b"To: Name <a@b.example>, other@b.example, Dr. X <c@d>\r\n",
        b'To: "x @ y" <a@b.example>\r\n',
        b'To: "a, x@y <b@c>" <d@e>\r\n',
        b'To: "\\", x@y <b@c>" <d@e>\r\n',
        b'To: "never closed, x@y <b@c>\r\n',
        b"To: (a, x@y <b@c>) <d@e>\r\n",
        b"To: Team: x@y, z@y;\r\n",
        b"To: undisclosed-recipients:;\r\n",
        b"To: =?utf-8?q?x?= @ y <a@b.example>\r\n",
        b"To: x @\r\n y <a@b.example>\r\n",
        b"To: ,,, ,\r\n",
        b"To:\r\n",
    ],
)
def test_everything_else_stays(field):
    assert quote_display_names(field) == field


@pytest.mark.parametrize("unit", [b"@", b" ", b",", b'"', b"(", b"a@b,", b'"a', b"\\", b", x", b"<", b"(a"])
def test_hostile_fields_cost_no_more_than_their_length(unit):
    """Backtracking over 256 KB would take hours; the test's time limit is the judge."""
    value = unit * (MAX_HEADER // len(unit))
    assert quote_display_names(b"To:" + value) == b"To:" + value


def test_date():
    assert date_field(NOW) == b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
    east = NOW.astimezone(timezone(timedelta(hours=2)))
    assert date_field(east) == b"Date: Fri, 02 Jan 2026 05:04:05 +0200\r\n"


def trace(**changes):
    facts = {
        "helo": "scanner.example",
        "client": "192.0.2.1",
        "hostname": "relay.example",
        "submission_id": "id1",
        "now": NOW,
        "tls_version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
    }
    return trace_field(**(facts | changes))


def test_trace_field():
    assert trace(recipients=("r@example.net",)) == (
        b"Received: from scanner.example ([192.0.2.1])\r\n"
        b"\tby relay.example with ESMTPSA id id1\r\n"
        b"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <r@example.net>;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("tls_version", "authenticated", "smtputf8", "protocol"),
    [
        ("", False, False, b"ESMTP"),
        ("", True, False, b"ESMTPA"),
        ("TLSv1.3", False, False, b"ESMTPS"),
        ("TLSv1.3", True, False, b"ESMTPSA"),
        ("", False, True, b"UTF8SMTP"),
        ("TLSv1.3", True, True, b"UTF8SMTPSA"),
    ],
)
def test_protocols(tls_version, authenticated, smtputf8, protocol):
    field = trace(tls_version=tls_version, authenticated=authenticated, smtputf8=smtputf8)
    assert b" with " + protocol + b" id " in field
    assert (b"version=" in field) is bool(tls_version)


@pytest.mark.parametrize(
    ("recipients", "smtputf8", "named"),
    [
        ((), False, False),
        (("a@b.example", "c@d.example"), False, False),
        (("a@b.example",), False, True),
        (('"a b"@b.example',), False, True),
        (("jörg@b.example",), False, False),
        (("jörg@b.example",), True, True),
        (("a@b.example>\r\nX: y",), True, False),
    ],
)
def test_only_a_single_recipient_is_named(recipients, smtputf8, named):
    field = trace(recipients=recipients, smtputf8=smtputf8)
    assert (b"for <" in field) is named
    if named:
        assert f"\tfor <{recipients[0]}>;\r\n".encode() in field


@pytest.mark.parametrize(
    ("helo", "word"),
    [
        ("SCANNER_01", b"SCANNER_01"),
        ("[192.0.2.7]", b"[192.0.2.7]"),
        ("[IPv6:2001:db8::7]", b"[IPv6:2001:db8::7]"),
        ("[x", b"-x"),
        ("a b", b"a-b"),
        ("a\r\nBcc: x", b"a--Bcc--x"),
        ("a (by x; y) <z>", b"a--by-x--y---z-"),
        ("bücher", b"b-cher"),
        ("\0\udc80", b"--"),
        ("", b"unknown"),
        ("a" * 300, b"a" * 255),
    ],
)
def test_helo_is_made_harmless(helo, word):
    assert trace(helo=helo).startswith(b"Received: from " + word + b" ([192.0.2.1])\r\n\tby ")


@pytest.mark.parametrize(
    ("client", "literal"),
    [
        ("192.0.2.1", b"[192.0.2.1]"),
        ("2001:db8::1", b"[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", b"[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", b"[192.0.2.1]"),
        ("", b"unknown"),
        ("a)\r\nX: y", b"unknown"),
    ],
)
def test_client_addresses(client, literal):
    assert trace(client=client).startswith(b"Received: from scanner.example (" + literal + b")\r\n")


@given(
    st.fixed_dictionaries(
        {name: st.text() for name in ("helo", "client", "hostname", "submission_id", "tls_version", "cipher")}
    ),
    st.lists(st.text()),
    st.booleans(),
)
def test_the_trace_field_is_one_field_whatever_is_put_in(words, recipients, smtputf8):
    field = trace(**words, recipients=tuple(recipients), smtputf8=smtputf8)
    fields, body = split(field)
    assert [found.raw for found in fields] == [field]
    assert body == b""
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    assert not HeaderRegistry()("Received", field.partition(b":")[2].decode().replace("\r\n", "")).defects
